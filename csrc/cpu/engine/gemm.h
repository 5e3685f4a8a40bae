// C = A B for one thread, any layout and size: blocking, packing, and the call of the ISA's matrix
// kernel.
//
// The order of every sum is a function of k alone: ascending inside a block, each block summed from
// zero and then added. Tiles, row and column ranges, packed or not, threads: none of them changes a
// bit of the result.
#pragma once

#include "kernels.h"
#include "scratch.h"

namespace pyfastnn::engine {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class S>
struct Operand {
  const S* data;
  int64_t ld;
  Layout layout;
};

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Block of the k loop. One unbroken float32 sum has 1.8 times torch's error for K > 300; blocks of
// 256 have 1.1.
struct KBlocks {
  static constexpr int64_t kMax = 256;  // units
  int64_t k, size, count;               // elements, elements in all blocks but the last, blocks
  KBlocks(int64_t k, int64_t k_per_unit);
  Range block(int64_t index) const;
};

// All of B in panels of kPanelVectors vectors; made once and shared by all threads that multiply
// with it.
template <class S>
struct PackedOperand {
  const void* data;
  int64_t panel_bytes;
};

// C[rows, columns] of C[m, n] = A[m, k] B[k, n], then bias, ReLU, mask (see PanelArgs).
// A sum that is too long for one call comes in several: the first starts from zero, each adds its
// blocks of k, the last runs the epilogue. Between them float and double keep the sums in C, 16-bit
// types in `sums` [m, n].
template <class S>
struct Gemm {
  int64_t m, n, k;
  Operand<S> a, b;
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
};

template <class S>
int64_t panel_width(const Kernels<S>& kernels) {
  return static_cast<int64_t>(kernels.lanes) * kPanelVectors;
}

template <class S>
int64_t panel_count(const Kernels<S>& kernels, int64_t n) {
  return divide_up(n, panel_width(kernels));
}

// Bytes of all panels of B[k, n].
template <class S>
int64_t packed_bytes(const Kernels<S>& kernels, int64_t k, int64_t n);

// Packs one panel into `data` (packed_bytes long for the whole).
template <class S>
void pack_panel(const Kernels<S>& kernels, const Operand<S>& b, int64_t k, int64_t n, int64_t panel,
                void* data);

// Rows of A that one block of k keeps in the L2 cache.
template <class S>
int64_t rows_in_cache(const Kernels<S>& kernels, int64_t k);

template <class S>
void gemm(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns);

}  // namespace pyfastnn::engine
