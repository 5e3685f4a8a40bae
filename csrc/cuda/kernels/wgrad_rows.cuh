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

  // rows: left from the first one of this block on.
  __device__ __forceinline__ RowMover(const void* matrix, int columns, int64_t ld, int64_t first,
                                      int64_t rows, bool whole, unsigned char* stages)
      : valid_(columns - chunk() * T::kElements),
        whole_(whole),
        pass_(in_register(kStep * ld)),
        left_(rows - row()),
        from_(static_cast<const Element*>(matrix) + (first + row()) * ld + chunk() * T::kElements) {
    const uint32_t start = shared_address(stages);
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      const int r = row() + i * kStep;
      to_[i] = in_register(start + Tile::place(r, chunk()));
    }
    // Columns that do not exist are zeros in every stage, once and for all.
    const Chunk zeros = {};
    if (valid_ <= 0)
      for (int stage = 0; stage < Tile::kStages; ++stage)
#pragma unroll
        for (int i = 0; i < kPasses; ++i) store_16(to_[i] + stage * Tile::kStage, zeros);
  }

  // The next 32 rows, zeros behind the last one, to a stage `offset` bytes behind the first.
  __device__ __forceinline__ void bring(uint32_t offset) {
    if (valid_ > 0) {
#pragma unroll
      for (int i = 0; i < kPasses; ++i) {
        const bool exists = i * kStep < left_;
        if (whole_) {
          copy_16(to_[i] + offset, from_, exists);
        } else {
          Chunk words;
          load_elements(words, from_, exists ? valid_ : 0);
          store_16(to_[i] + offset, words);
        }
        from_ += pass_;
      }
    }
    left_ -= kWgradStageRows;
  }

  // Calls visit(address) for every word that this thread brings to that stage.
  template <class Visit>
  __device__ __forceinline__ void for_own_words(uint32_t offset, Visit visit) const {
#pragma unroll
    for (int i = 0; i < kPasses; ++i) visit(to_[i] + offset);
  }

 private:
  static __device__ __forceinline__ int chunk() { return threadIdx.x % Tile::kChunks; }
  static __device__ __forceinline__ int row() { return threadIdx.x / Tile::kChunks; }

  int valid_;
  bool whole_;
  int64_t pass_, left_;
  const Element* from_;
  uint32_t to_[kPasses];
};

}  // namespace pyfastnn::cuda
