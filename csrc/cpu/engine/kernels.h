// The contract between the engine and one instruction set: a table of functions for each storage
// type.
//
// Everything above this line is plain C++; everything below is compiled once for each ISA
// (isa/*.cpp). A table holds packing, one matrix kernel, products with sparse matrices and
// element-wise helpers. The matrix kernel fixes the order of every sum, so that results do not
// depend on batch size, tile, or threads. A block of k is one chain of sums, ascending from zero,
// or G of them, where G units fill 16 bytes: chain q takes units q, q + G, q + 2 G, ..., and the
// block is ((chain 0 + chain 1) + ...). A block that sums to zero is +0: a product too small for
// its type would leave -0, or not, depending on the zeros that follow it and may be left out.
#pragma once

#include <cstdint>

namespace pyfastnn::engine {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// The type that sums are kept in.
template <class S>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class S>
using Accumulator = typename AccumulatorOf<S>::type;

// How a matrix lies in memory. kRows: element (i, j) at data[i * ld + j]; kColumns: at data[j * ld
// + i].
enum class Layout { kRows, kColumns };

// One step of the k loop consumes one *unit*: an element of the type sums are kept in, or, where
// the ISA multiplies pairs of bfloat16, two neighbouring elements along k in 32 bits. Packed
// operands consist of units.
//
// C[0:m, 0:n] (+)= A[0:m, 0:k] B[0:k, 0:n] for one panel of B (n <= panel width) and one block of
// k; for a B^T that is read as it lies, all blocks.
template <class S>
struct PanelArgs {
  int64_t m, n, k;  // k counts units
  int64_t k_block;  // units in all blocks but the last; only for b_layout kColumns
  const void* a;    // units; A(i, p) at a[i * lda + p] (kRows) or a[p * lda + i] (kColumns)
  int64_t lda;
  Layout a_layout;
  int64_t a_tile;  // 0, or: A is packed by register tiles, RowTiles(m, tile_rows), so many units
                   // apart: A(i, p) of tile t at a[t * a_tile + p * lda + i - first row of t]
  int64_t tile_rows;
  const int32_t* lists;  // null: tiles are summed over all units of k. Else tile t of RowTiles(m,
                         // tile_rows) over those in the list at lists + t * list_step
  int64_t list_step;
  const void* b;  // units; B(p, j) at b[p * ldb + j] (kRows): columns up to the next multiple of
                  // `lanes` are readable
  int64_t ldb;    // or at b[j * ldb + p] (kColumns): only in_chains and n a
                  // multiple of `lanes`
  Layout b_layout;
  int64_t b_ahead;   // so many units beyond B lies what is wanted next; 0: nothing
  bool in_chains;    // kGroup chains of sums, not one
  bool first, last;  // block of k: the first stores, later ones add, the last runs the epilogue
  Accumulator<S>* partial;  // [m, n] sums between blocks; not touched if first and last
  int64_t ld_partial;
  S* c;  // [m, n] results; c may be `partial` itself
  int64_t ldc;
  const S* bias;  // [n] or null: added after the sum
  bool relu;      // c = z <= 0 ? 0 : z, so NaN stays
  const S* mask;  // [m, n] or null: c = 0 where mask <= 0 (the ReLU output of the layer below), so
                  // NaN passes
  int64_t ld_mask;
  const Accumulator<S>* wanted;  // [m, n] or null: fetched into the cache, for the caller
  int64_t ld_wanted;
  const char* const* ahead;  // [m] or null: from each of these places, this piece of so many bytes
                             // is fetched into the cache, for whoever comes later
  int64_t ahead_bytes, ahead_piece, ahead_pieces;
};

// Units of k in a block, at most, and chains in it.
inline constexpr int64_t kMaxUnits = 512;
inline constexpr int kMaxChains = 4;

// A list of units of k: [kMaxChains] how many of each chain, then the units chain by chain,
// ascending. Or the first of these numbers is kAllUnits, for a list that would cost more than it
// saves.
inline constexpr int32_t kAllUnits = -1;
inline bool is_worth_a_list(int64_t units, int64_t all) { return units * 8 <= all * 7; }
inline int64_t list_all(int64_t all, int32_t* list) {
  *list = kAllUnits;
  return all;
}

// A matrix kernel holds at most this many vectors of B in registers; wider panels serve very small
// m.
inline constexpr int kMaxPanelVectors = 8;
inline constexpr int kPanelVectors = 2;

// Rows are split evenly into tiles of at most max_rows (64 = 4 x 11 + 2 x 10, not 5 x 12 + 4),
// because a tile of few rows waits for the latency of its few sums.
struct RowTiles {
  int64_t count, small, larger;  // tiles; rows of a tile; tiles with one row more, the first ones
  RowTiles(int64_t m, int64_t max_rows)
      : count((m + max_rows - 1) / max_rows), small(m / count), larger(m % count) {}
  int64_t rows(int64_t tile) const { return small + (tile < larger ? 1 : 0); }
};

// C[m, n] = A B, A sparse: row i of A has the entries begin[i] to begin[i + 1], each a value and
// the row of B that it multiplies. Entries are added in the order in which they stand, in blocks of
// a fixed size; then bias and ReLU.
template <class S>
struct SparseProduct {
  int64_t m, n;
  const int64_t* begin;  // [m + 1]
  const int32_t* index;
  const Accumulator<S>* values;
  const S* b;
  int64_t ldb;
  S* c;
  int64_t ldc;
  const S* bias;  // [n] or null
  bool relu;
};

// dots[e] = A[i, 0:n] . B[index[e], 0:n] for every entry e of row i.
template <class S>
struct SparseDots {
  int64_t m, n;
  const int64_t* begin;
  const int32_t* index;
  const S* a;
  int64_t lda;
  const S* b;
  int64_t ldb;
  Accumulator<S>* dots;
};

template <class S>
struct Kernels {
  int lanes;                           // accumulators in one vector
  int max_rows[kMaxPanelVectors + 1];  // rows of the register tile for 1..8 vectors of B
  int max_rows_transposed;  // up to so many rows of A, reading B^T as it lies beats packing it
  int k_per_unit;           // elements of k in a unit: 1 or 2
  int unit_bytes;
  bool same_bits;  // a unit has the bits of its elements: operands may be read where they lie

  void (*gemm_panel)(const PanelArgs<S>&);
  // The same for any n, where k is so small that writing C is the work; along its rows therefore.
  // A and B as they lie, B in layout kRows. Null for types that are converted.
  void (*gemm_short)(const PanelArgs<S>&);

  // B(p, j) = src[j * ld + p] -> dst[units of k][width]; n <= width, columns n..width are zero.
  void (*pack_transposed)(const S* src, int64_t ld, int64_t k, int64_t n, void* dst, int64_t width);
  // B(p, j) = src[p * ld + j] -> the same form. Also packs A in layout kColumns.
  void (*pack_plain)(const S* src, int64_t ld, int64_t k, int64_t n, void* dst, int64_t width);
  // A(i, p) = src[i * ld + p] -> dst[m][ld_dst units].
  void (*pack_rows)(const S* src, int64_t ld, int64_t m, int64_t k, void* dst, int64_t ld_dst);

  // For every tile of A: the list of the units of k in which it is not all zero. The list of those
  // in which B, in layout kRows, is not. Return how many there are; all, without lists, if hardly a
  // zero is in the first quarter of the tiles. B is in one chain.
  int64_t (*list_a)(const PanelArgs<S>&, int32_t* lists);
  int64_t (*list_b)(const PanelArgs<S>&, int32_t* list);
  // Whether p[rows, n] has neither infinity nor NaN.
  bool (*is_finite)(const S* p, int64_t ld, int64_t rows, int64_t n);

  // dst = y <= 0 ? 0 : src, element-wise on [m, n].
  void (*mask_rows)(const S* src, int64_t ld_src, const S* y, int64_t ld_y, int64_t m, int64_t n,
                    S* dst, int64_t ld_dst);
  // sums[j] = sum over rows of src[i * ld + j], by groups of 16 rows.
  void (*column_sums)(const S* src, int64_t ld, int64_t m, int64_t n, Accumulator<S>* sums);
  // dst[j] = src[j], rounded once.
  void (*round)(const Accumulator<S>* src, int64_t n, S* dst);

  void (*sparse_product)(const SparseProduct<S>&);
  void (*sparse_dots)(const SparseDots<S>&);
};

template <class S>
struct TrainingKernels;  // training_kernels.h

// The tables of one instruction set.
struct Isa {
  const char* name;
  bool (*is_supported)();
  const Kernels<float>* f32;
  const Kernels<double>* f64;
  const Kernels<BFloat16>* bf16;
  const Kernels<Half>* f16;
  const TrainingKernels<float>* training_f32;
  const TrainingKernels<double>* training_f64;
  const TrainingKernels<BFloat16>* training_bf16;
};

extern const Isa kBaseline;
#if defined(__x86_64__)
extern const Isa kAvx2;
extern const Isa kAvx512;
extern const Isa kAvx512Bf16;
#endif

const Isa& active_isa_tables();

template <class S>
const Kernels<S>& active_kernels();

}  // namespace pyfastnn::engine
