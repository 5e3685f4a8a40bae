// The rows of a batch as the network reads them: as they lie, or gathered, converted and scaled.
#pragma once

#include <algorithm>
#include <type_traits>

#include "network.h"
#include "train.h"

namespace pyfastnn::engine {

// Of one part of the batch at a time. S is the type that is computed with.
template <class S>
class BatchRows {
  using P = Accumulator<S>;

 public:
  BatchRows(const Batch<P>& batch, int64_t features) : batch_(batch), features_(features) {}

  void reserve(int64_t part_rows, int64_t ld, Scratch& scratch) {
    if (!gathers()) return;
    gathered_ = {scratch.take_array<S>(part_rows * ld), ld};
    if (batch_.index != nullptr) ahead_ = scratch.take_array<const char*>(part_rows);
  }

  // Rows [begin, begin + rows) of the batch are next.
  void begin_part(int64_t begin, int64_t rows) {
    begin_ = begin;
    find_rows_ahead(rows);
  }

  bool gathers() const {
    if ((batch_.index != nullptr && !batch_.x_in_order) || batch_.scale != 1 || batch_.shift != 0)
      return true;
    return batch_.kind != (std::is_same_v<S, P> ? InputKind::kParameters : InputKind::kCompute);
  }

  // Of the part; gathered rows are there after gather().
  Matrix<const S> matrix() const {
    if (gathers()) return as_const(gathered_);
    return {static_cast<const S*>(batch_.x) + begin_ * batch_.ld, batch_.ld};
  }

  void gather(Range rows) const {
    const P scale = static_cast<P>(batch_.scale), shift = static_cast<P>(batch_.shift);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const char* from = place(batch_.index == nullptr ? begin_ + i : batch_.index[begin_ + i]);
      S* to = gathered_.data + i * gathered_.ld;
      if (batch_.kind == InputKind::kBytes) {
        kernels_.convert_bytes(reinterpret_cast<const uint8_t*>(from), features_, scale, shift, to);
      } else if (batch_.kind == InputKind::kParameters) {
        kernels_.convert(reinterpret_cast<const P*>(from), features_, scale, shift, to);
      } else {
        std::copy_n(reinterpret_cast<const S*>(from), features_, to);
      }
    }
  }

  // Shuffled rows come from anywhere in memory. Those of the next part or batch, one for each row
  // of this part from `row` on, are fetched while the first layer is multiplied (MNIST, batch 64:
  // 250 -> 240 ms an epoch; fetching each a few rows before it is gathered gained nothing).
  void fetch_ahead(Gemm<S>& product, int64_t row) const {
    if (!fetches_) return;
    product.ahead = ahead_ + row;
    product.ahead_bytes = features_ * element();
  }

 private:
  int64_t element() const {
    if (batch_.kind == InputKind::kBytes) return 1;
    return batch_.kind == InputKind::kParameters ? sizeof(P) : sizeof(S);
  }

  const char* place(int64_t row) const {
    return static_cast<const char*>(batch_.x) + row * batch_.ld * element();
  }

  void find_rows_ahead(int64_t rows) {
    const int64_t next = begin_ + rows, known = batch_.rows + batch_.following;
    fetches_ = ahead_ != nullptr && next < known;
    if (!fetches_) return;
    for (int64_t i = 0; i < rows; ++i)
      ahead_[i] = place(batch_.index[std::min(next + i, known - 1)]);
  }

  const TrainingKernels<S>& kernels_ = active_training_kernels<S>();
  const Batch<P>& batch_;
  const int64_t features_;
  int64_t begin_ = 0;
  Matrix<S> gathered_;            // [part_rows, features]
  const char** ahead_ = nullptr;  // [part_rows]
  bool fetches_ = false;
};

}  // namespace pyfastnn::engine
