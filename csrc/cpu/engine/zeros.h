// Zeros that a product need not multiply: units of k in which a whole register tile of A, or a
// whole panel of B, is zero (pixels at the border of a picture, columns of one-hot features,
// padding).
//
// A product with zero adds nothing, so leaving it out changes no bit of a sum (which is never -0),
// unless the other factor is infinite or NaN. Where there are enough zeros to gain from, the other
// operand is searched for these first; if it has any, everything is multiplied.
#pragma once

#include <optional>

#include "gemm.h"

namespace pyfastnn::engine {

template <class S>
class Zeros {
 public:
  // Of A[rows, k] B[k, columns].
  Zeros(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns, Scratch& scratch)
      : kernels_(kernels), args_(args), rows_(rows), columns_(columns), scratch_(scratch) {
    // Few rows and short sums are not worth a search. (So panels of B are two vectors wide here.)
    searches_ = rows.size() >= kFewestRows && args.k >= kFewestUnits;
    if (searches_) list_of_b_ = scratch.take_array<int32_t>(kMaxChains + kMaxUnits);
  }

  // In panel.a, once for all panels of B.
  void search_a(PanelArgs<S>& panel) {
    panel.lists = nullptr;
    a_has_zeros_ = false;
    if (panel.a_tile == 0) panel.tile_rows = kTileRows;
    if (!searches_ || columns_.size() < kFewestColumns) return;
    const RowTiles tiles(panel.m, panel.tile_rows);
    panel.list_step = kMaxChains + panel.k;
    int32_t* lists = scratch_.take_array<int32_t>(tiles.count * panel.list_step);
    const int64_t units = kernels_.list_a(panel, lists);
    a_has_zeros_ = is_worth_a_list(units, tiles.count * panel.k) && b_is_finite();
    if (a_has_zeros_) panel.lists = lists;
  }

  // In panel.b, where A had none. In fprop and dgrad B are weights, which are hardly ever zero.
  void search_b(PanelArgs<S>& panel) {
    if (!searches_ || a_has_zeros_ || args_.a.layout == Layout::kRows) return;
    if (panel.a_tile == 0) panel.tile_rows = kernels_.max_rows[kPanelVectors];
    panel.list_step = 0;
    const int64_t units = kernels_.list_b(panel, list_of_b_);
    panel.lists = is_worth_a_list(units, panel.k) && a_is_finite() ? list_of_b_ : nullptr;
  }

 private:
  static constexpr int64_t kFewestRows = 24, kFewestUnits = 48, kFewestColumns = 64;

  // Fewer rows than the largest tile has are more often zero together, and still hide the latency
  // of a multiply-add (fit of MNIST, 784-128-64-10, batch 64, AVX-512: 292 -> 278 ms an epoch).
  static constexpr int64_t kTileRows = 6;

  bool a_is_finite() {
    if (!a_is_finite_.has_value())
      a_is_finite_ = is_finite(kernels_, args_.a, rows_, Range{0, args_.k});
    return *a_is_finite_;
  }

  bool b_is_finite() {
    if (!b_is_finite_.has_value()) {
      b_is_finite_ =
          args_.b.is_finite ||
          (args_.b.data != nullptr && is_finite(kernels_, args_.b, Range{0, args_.k}, columns_));
    }
    return *b_is_finite_;
  }

  const Kernels<S>& kernels_;
  const Gemm<S>& args_;
  const Range rows_, columns_;
  Scratch& scratch_;
  bool searches_ = false, a_has_zeros_ = false;
  std::optional<bool> a_is_finite_, b_is_finite_;
  int32_t* list_of_b_ = nullptr;
};

}  // namespace pyfastnn::engine
