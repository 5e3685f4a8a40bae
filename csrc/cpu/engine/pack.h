// Operands: how they lie in memory, and packed copies of whole ones, panels of kPanelVectors
// vectors one after the other.
#pragma once

#include <utility>

#include "k_blocks.h"
#include "kernels.h"

namespace pyfastnn::engine {

template <class S>
struct Operand {
  const S* data;
  int64_t ld;
  Layout layout;
  bool is_finite = false;  // known to have neither infinity nor NaN
};

template <class S>
Operand<S> transposed(const Operand<S>& operand) {
  const bool by_rows = operand.layout == Layout::kRows;
  return {operand.data, operand.ld, by_rows ? Layout::kColumns : Layout::kRows, operand.is_finite};
}

// Rows at a multiple of 2 KB from each other fall into so few sets of the L1 cache (64 sets of 64
// bytes) that a tile of more rows than a set has ways evicts itself.
inline constexpr int64_t kCacheWays = 8;

template <class S>
bool rows_conflict(const Operand<S>& operand) {
  return operand.ld * static_cast<int64_t>(sizeof(S)) % 2048 == 0;
}

// Panels of B that serve more rows than this are copied first: the copy costs 2 of (rows) vector
// operations, and a panel in one piece avoids cache-set conflicts and TLB misses.
template <class S>
int64_t rows_worth_packing(const Operand<S>& b) {
  return rows_conflict(b) ? 48 : 64;
}

template <class S>
bool lie_far_apart(const Operand<S>& operand) {
  return operand.ld * static_cast<int64_t>(sizeof(S)) >= 2048;
}

// Whether the elements of a unit lie in one piece of memory, aligned as a unit: then the operand
// can be read without packing. `k_contiguous`: neighbours along k are neighbours in memory.
template <class S>
bool lies_in_units(const Kernels<S>& kernels, const Operand<S>& operand, int64_t k,
                   bool k_contiguous) {
  if (!kernels.same_bits) return false;
  if (kernels.k_per_unit == 1) return true;
  return k_contiguous && operand.ld % kernels.k_per_unit == 0 && k % kernels.k_per_unit == 0 &&
         reinterpret_cast<uintptr_t>(operand.data) % static_cast<uintptr_t>(kernels.unit_bytes) ==
             0;
}

// Whether operand(i, j) has neither infinity nor NaN.
template <class S>
bool is_finite(const Kernels<S>& kernels, const Operand<S>& operand, Range i, Range j) {
  if (operand.layout == Layout::kColumns) std::swap(i, j);
  return kernels.is_finite(operand.data + i.begin * operand.ld + j.begin, operand.ld, i.size(),
                           j.size());
}

// All of B in panels; made once and shared by all threads that multiply with it.
template <class S>
struct PackedOperand {
  const void* data;
  int64_t panel_bytes;
};

template <class S>
int64_t panel_width(const Kernels<S>& kernels) {
  return static_cast<int64_t>(kernels.lanes) * kPanelVectors;
}

template <class S>
int64_t panel_count(const Kernels<S>& kernels, int64_t n) {
  return divide_up(n, panel_width(kernels));
}

// Bytes of one panel of B[k, n].
template <class S>
int64_t panel_bytes(const Kernels<S>& kernels, int64_t k) {
  return divide_up(k, kernels.k_per_unit) * panel_width(kernels) * kernels.unit_bytes;
}

// Packs one panel to where it belongs in `data`, which has room for all.
template <class S>
void pack_panel(const Kernels<S>& kernels, const Operand<S>& b, int64_t k, int64_t n, int64_t panel,
                void* data) {
  const int64_t width = panel_width(kernels), j = panel * width, columns = n - j;
  void* dst = static_cast<char*>(data) + panel * panel_bytes(kernels, k);
  if (b.layout == Layout::kRows) {
    kernels.pack_plain(b.data + j, b.ld, k, columns < width ? columns : width, dst, width);
  } else {
    kernels.pack_transposed(b.data + j * b.ld, b.ld, k, columns < width ? columns : width, dst,
                            width);
  }
}

}  // namespace pyfastnn::engine
