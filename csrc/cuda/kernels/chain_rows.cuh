// Rows of activations and gradients on their way between memory and the registers of the chain.
//
// EXACT: columns are whole groups, matrices have whole words and all rows of the warp exist; then
// there is nothing to ask. Otherwise every word is checked, or comes by chain_staging.cuh.
#pragma once

#include "chain_staging.cuh"

namespace pyfastnn::cuda {

// The rows of this warp, and its part of shared memory.
struct WarpRows {
  int64_t first;
  int count;  // that exist, at most those of the warp
  unsigned char* stage;
};

// A matrix as a lane sees it: (m, half) is row g + 16 m + 8 half of the warp, from column
// t * kElements on.
template <class T, class Tile, class Element>
struct LaneRows {
  Element* rows[Tile::kMTiles][2];

  __device__ __forceinline__ LaneRows(Element* data, int64_t ld, const WarpRows& warp) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    Element* row = data + (warp.first + g) * ld + t * T::kElements;
#pragma unroll
    for (int m = 0; m < Tile::kMTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half, row += 8 * ld) rows[m][half] = row;
  }
};

// How many elements of a chunk of this lane a [count, columns] matrix has; may be negative or more
// than all.
template <class T, class Tile>
__device__ __forceinline__ int valid_elements(int m, int n, int half, int count, int columns) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  return g + 16 * m + 8 * half < count ? columns - t * T::kElements - n * Tile::kGroup : 0;
}
template <class T, class Tile>
__device__ __forceinline__ bool has_chunk(int m, int n, int half, int count, int columns) {
  return valid_elements<T, Tile>(m, n, half, count, columns) > 0;
}

// A matrix that is read group by group.
template <class T, class Tile, bool EXACT>
class Source {
 public:
  using Element = typename T::Element;

  __device__ __forceinline__ Source(const void* matrix, int64_t ld, int columns, bool whole,
                                    const WarpRows& warp)
      : warp_(warp),
        columns_(columns),
        pieces_(!EXACT && !whole),
        lane_(static_cast<const Element*>(matrix), ld, warp) {
    const Element* first = static_cast<const Element*>(matrix) + warp.first * ld;
    if (Tile::kStages && pieces_) fill_stage<T, Tile>(warp.stage, first, warp.count, columns);
  }

  __device__ __forceinline__ void load(Chunk& to, int m, int n, int half) const {
    if (Tile::kStages && pieces_)
      load_16<0>(to, staged_chunk<Tile>(warp_.stage, m, n, half));
    else if (pieces_)
      load_elements(to, lane_.rows[m][half] + n * Tile::kGroup,
                    valid_elements<T, Tile>(m, n, half, warp_.count, columns_));
    else if (EXACT || has_chunk<T, Tile>(m, n, half, warp_.count, columns_))
      load_chunk(to, lane_.rows[m][half] + n * Tile::kGroup);
    else
      set_chunk(to, make_uint4(0, 0, 0, 0));
  }

 private:
  const WarpRows& warp_;
  int columns_;
  bool pieces_;  // rows are not whole 16-byte words
  LaneRows<T, Tile, const Element> lane_;
};

// dZ: applies the mask of Y to rows of dY.
template <class T, class Tile, bool EXACT>
__device__ __forceinline__ void mask_rows(typename Tile::Rows& rows, const void* y, int columns,
                                          bool whole, const WarpRows& warp) {
  const Source<T, Tile, EXACT> source(y, columns, columns, whole, warp);
#pragma unroll
  for (int n = 0; n < Tile::kGroups; ++n) {
    if (n * Tile::kGroup >= columns) break;
    Chunk chunks[Tile::kMTiles][2];  // all on their way before the first is waited for
#pragma unroll
    for (int i = 0; i < 2 * Tile::kMTiles; ++i) source.load(chunks[i / 2][i % 2], i / 2, n, i % 2);
#pragma unroll
    for (int i = 0; i < 2 * Tile::kMTiles; ++i)
      apply_mask<T>(rows[i / 2][n][i % 2], chunks[i / 2][i % 2]);
  }
}

template <class T, class Tile, bool EXACT>
__device__ __forceinline__ void store_rows(const typename Tile::Rows& from, void* matrix,
                                           int64_t ld, int columns, bool whole,
                                           const WarpRows& warp) {
  using Element = typename T::Element;
  Element* data = static_cast<Element*>(matrix);
  const bool pieces = !EXACT && !whole;
  if (Tile::kStages && pieces) {
    store_staged<T, Tile>(from, data + warp.first * ld, warp.count, columns, warp.stage);
    return;
  }
  const LaneRows<T, Tile, Element> lane(data, ld, warp);
  for_chunks<Tile>(columns, [&](int m, int n, int half) {
    if (pieces)
      store_elements(lane.rows[m][half] + n * Tile::kGroup, from[m][n][half],
                     valid_elements<T, Tile>(m, n, half, warp.count, columns));
    else if (EXACT || has_chunk<T, Tile>(m, n, half, warp.count, columns))
      store_chunk(lane.rows[m][half] + n * Tile::kGroup, from[m][n][half]);
  });
}

// The input of a network, or dZ of its last layer: dY by the mask of Y.
template <class T, class Tile, Pass PASS, bool EXACT>
__device__ __forceinline__ void load_input(typename Tile::Rows& act, const Chain& chain,
                                           const WarpRows& warp) {
  keep_apart<EXACT>();
  const int columns = in_register<int>(chain.in);
  const Source<T, Tile, EXACT> input(chain.input, chain.input_ld, columns,
                                     chain.whole & kWholeInput, warp);
  for_chunks<Tile>(columns,
                   [&](int m, int n, int half) { input.load(act[m][n][half], m, n, half); });
  if constexpr (PASS == Pass::kDgrad) {
    if (chain.input_mask != nullptr)
      mask_rows<T, Tile, EXACT>(act, chain.input_mask, columns, chain.whole & kWholeMask, warp);
    if (chain.masked_input != nullptr)
      store_rows<T, Tile, EXACT>(act, chain.masked_input, chain.masked_ld, columns,
                                 chain.whole & kWholeOutput, warp);
  }
  for_chunks<Tile>(columns, [&](int m, int n, int half) { round_for_mma<T>(act[m][n][half]); });
  keep_apart<EXACT>();
}

// Results of a layer, finished by the ReLU or the mask, kept for the next layer if there is one
// more, and stored if somebody wants them.
template <class T, class Tile, Pass PASS, bool RELU, bool EXACT>
__device__ __forceinline__ void finish_rows(typename Tile::Rows& act,
                                            const typename Tile::Sums& acc, const ChainLayer& layer,
                                            int columns, const WarpRows& warp, bool more) {
  keep_apart<2 * RELU + EXACT>();
  for_chunks<Tile>(columns, [&](int m, int n, int half) {
    float values[T::kElements];
#pragma unroll
    for (int e = 0; e < T::kElements; ++e) values[e] = acc[m][n][e / 2][2 * half + e % 2];
    Chunk& chunk = act[m][n][half];
    chunk_of<T, RELU>(chunk, values);
    // Columns that do not exist may hold inf * 0.
    if (!EXACT) clear_tail<T>(chunk, columns - n * Tile::kGroup - threadIdx.x % 4 * T::kElements);
  });
  if constexpr (PASS == Pass::kDgrad) {
    if (layer.extra != nullptr)
      mask_rows<T, Tile, EXACT>(act, layer.extra, columns, layer.whole & kWholeMask, warp);
  }
  if (layer.output != nullptr)
    store_rows<T, Tile, EXACT>(act, layer.output, layer.output_ld, columns,
                               layer.whole & kWholeOutput, warp);
  if (more)
    for_chunks<Tile>(columns, [&](int m, int n, int half) { round_for_mma<T>(act[m][n][half]); });
  keep_apart<2 * RELU + EXACT>();
}

template <class Tile>
__device__ __forceinline__ bool is_exact(int columns, unsigned whole, const WarpRows& warp) {
  constexpr unsigned kAll = kWholeInput | kWholeMask | kWholeOutput;
  return warp.count == Tile::kWarpRows && columns % Tile::kGroup == 0 && (whole & kAll) == kAll;
}

template <class T, class Tile, Pass PASS>
__device__ __forceinline__ void load_input(typename Tile::Rows& act, const Chain& chain,
                                           const WarpRows& warp) {
  if (is_exact<Tile>(chain.in, chain.whole, warp))
    load_input<T, Tile, PASS, true>(act, chain, warp);
  else
    load_input<T, Tile, PASS, false>(act, chain, warp);
}

template <class T, class Tile, Pass PASS>
__device__ __forceinline__ void finish_rows(typename Tile::Rows& act,
                                            const typename Tile::Sums& acc, const ChainLayer& layer,
                                            int columns, const WarpRows& warp, bool more) {
  constexpr bool kRelu = PASS == Pass::kFprop;
  const bool exact = is_exact<Tile>(columns, layer.whole, warp);
  if (kRelu && layer.relu) {
    if (exact)
      finish_rows<T, Tile, PASS, kRelu, true>(act, acc, layer, columns, warp, more);
    else
      finish_rows<T, Tile, PASS, kRelu, false>(act, acc, layer, columns, warp, more);
  } else if (exact) {
    finish_rows<T, Tile, PASS, false, true>(act, acc, layer, columns, warp, more);
  } else {
    finish_rows<T, Tile, PASS, false, false>(act, acc, layer, columns, warp, more);
  }
}

}  // namespace pyfastnn::cuda
