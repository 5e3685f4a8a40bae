// How rows of both operands of a weight gradient come to shared memory, stage by stage.
#pragma once

#include "numbers.cuh"
#include "wgrad.h"

namespace pyfastnn::cuda {

// What this thread brings of one operand: the same chunk of every n-th row.
template <class T, class Tile>
class RowMover {
 public:
  using Element = typename T::Element;
  static constexpr int kStep = Tile::kThreads / Tile::kChunks;  // rows of a pass
  static constexpr int kPasses = kWgradStageRows / kStep;
  static constexpr int kPassBytes = kStep * Tile::kStride;
  static_assert(kStep % 8 == 0, "place() exchanges chunks alike in all rows of a thread");

  // rows: left from the first one of this block on.
  __device__ __forceinline__ RowMover(const void* matrix, int columns, int64_t ld, int64_t first,
                                      int64_t rows, bool whole, unsigned char* stages)
      : valid_(columns - chunk() * T::kElements),
        whole_(whole),
        pass_(in_register(kStep * ld)),
        left_(rows - row()),
        from_(static_cast<const Element*>(matrix) + (first + row()) * ld + chunk() * T::kElements) {
    to_ = in_register(shared_address(stages) + Tile::place(row(), chunk()));
    // Columns that do not exist are zeros in every stage, once and for all.
    const Chunk zeros = {};
    if (valid_ <= 0)
      for (int stage = 0; stage < Tile::kStages; ++stage)
        for_own_words(stage * Tile::kStage,
                      [&](auto place, uint32_t at) { store_16<place>(at, zeros); });
  }

  // The next 32 rows, zeros behind the last one, to a stage `offset` bytes behind the first.
  __device__ __forceinline__ void bring(uint32_t offset) {
    const uint32_t at = to_ + offset;
    if (valid_ > 0 && whole_) {
      unroll<kPasses>([&](auto i) {
        copy_16<i * kPassBytes>(at, from_, i * kStep < left_);
        from_ += pass_;
      });
    } else if (valid_ > 0) {
      unroll<kPasses>([&](auto i) {
        Chunk words;
        load_elements(words, from_, i * kStep < left_ ? valid_ : 0);
        store_16<i * kPassBytes>(at, words);
        from_ += pass_;
      });
    }
    left_ -= kWgradStageRows;
  }

  // Calls visit(place, address) for every word that this thread brings to that stage: it lies
  // `place` bytes, a constant, behind the address.
  template <class Visit>
  __device__ __forceinline__ void for_own_words(uint32_t offset, Visit visit) const {
    const uint32_t at = to_ + offset;
    unroll<kPasses>([&](auto i) { visit(Constant<i * kPassBytes>{}, at); });
  }

 private:
  static __device__ __forceinline__ int chunk() { return threadIdx.x % Tile::kChunks; }
  static __device__ __forceinline__ int row() { return threadIdx.x / Tile::kChunks; }

  int valid_;
  bool whole_;
  int64_t pass_, left_;
  const Element* from_;
  uint32_t to_;
};

}  // namespace pyfastnn::cuda
