// C = A B for one thread, any layout and size: blocking, packing, and the call of the ISA's matrix
// kernel.
// Sums are made in the order of k_blocks.h.
#pragma once

#include <algorithm>

#include "pack.h"
#include "scratch.h"

namespace pyfastnn::engine {

// C[rows, columns] of C[m, n] = A[m, k] B[k, n], then bias, ReLU, mask (see PanelArgs).
// A sum that is too long for one call comes in several: the first starts from zero, each adds its
// blocks of k, the last runs the epilogue. Between them float and double keep the sums in C, 16-bit
// types in `sums` [m, n].
template <class S>
struct Gemm {
  int64_t m, n, k;
  Operand<S> a, b;
  Order order = Order::kAscending;
  const PackedOperand<S>* b_packed =
      nullptr;  // of b, or null: panels are packed on the way where that pays
  S* c;
  int64_t ldc;
  const S* bias = nullptr;
  bool relu = false;
  const S* mask = nullptr;
  int64_t ld_mask = 0;
  bool first = true, last = true;
  Accumulator<S>* sums = nullptr;
  // What the caller will read when C is there, [m, n]: fetched into the cache meanwhile; or null.
  const Accumulator<S>* wanted = nullptr;
  int64_t ld_wanted = 0;
  // What will be read after all of this: so many bytes from each of m places; or null.
  const char* const* ahead = nullptr;
  int64_t ahead_bytes = 0;
};

// Rows of A so that [rows, one block of k] stays in so much of the L2 cache.
inline constexpr int64_t kABlockBytes = 128 * 1024;
template <class S>
int64_t rows_in_cache(const Kernels<S>& kernels, int64_t k, Order order) {
  const KBlocks blocks(k, kernels.k_per_unit, order);
  const int64_t units = std::max<int64_t>(16, divide_up(blocks.size, kernels.k_per_unit));
  return round_up(std::clamp<int64_t>(kABlockBytes / (units * kernels.unit_bytes), 48, 480),
                  kernels.max_rows[kPanelVectors]);
}

template <class S>
void gemm(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns);

}  // namespace pyfastnn::engine
