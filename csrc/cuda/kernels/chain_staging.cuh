// 16-bit rows that are not made of whole 16-byte words, on their way between memory and the
// registers of the chain: element by element, neighbouring lanes at neighbouring addresses, by way
// of a warp's own part of shared memory.
#pragma once

#include "chain_weights.cuh"

namespace pyfastnn::cuda {

// Place of element `column` of row `row` of a warp, laid out as weights are.
template <class T, class Tile>
__device__ __forceinline__ int staged_offset(int row, int column) {
  return weight_offset<Tile>(row, column / T::kElements) +
         column % T::kElements * static_cast<int>(sizeof(typename T::Element));
}

// Calls visit(i, row, column) for the elements of this lane of [rows, columns], which lie side by
// side.
template <class Visit>
__device__ __forceinline__ void for_elements(int rows, int columns, Visit visit) {
  const float scale = 1.f / columns;
#pragma unroll 2
  for (int i = threadIdx.x % 32; i < rows * columns; i += 32) {
    const int row = static_cast<int>((i + 0.5f) * scale);  // exact for so few
    visit(i, row, i - row * columns);
  }
}

// Address of chunk t of group k, in row g + 16 m + 8 half of a warp.
template <class Tile>
__device__ __forceinline__ uint32_t staged_chunk(const unsigned char* stage, int m, int k,
                                                 int half) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  return shared_address(stage + weight_offset<Tile>(g, 4 * k + t)) +
         (16 * m + 8 * half) * Tile::kStride;
}

// Calls visit(m, n, half) for all chunks that a lane has of `columns` columns.
template <class Tile, class Visit>
__device__ __forceinline__ void for_chunks(int columns, Visit visit) {
#pragma unroll
  for (int n = 0; n < Tile::kGroups; ++n) {
    if (n * Tile::kGroup >= columns) break;
#pragma unroll
    for (int m = 0; m < Tile::kMTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) visit(m, n, half);
  }
}

// From memory to the stage. data: the warp's first row. Rows behind the last one and the rest of a
// group become zeros.
template <class T, class Tile>
__device__ __forceinline__ void fill_stage(unsigned char* stage, const typename T::Element* data,
                                           int rows, int columns) {
  using Element = typename T::Element;
  __syncwarp();  // the warp has read what lay here before
  for_chunks<Tile>(columns, [&](int m, int n, int half) {
    const Chunk zeros = {};
    store_16(staged_chunk<Tile>(stage, m, n, half), zeros);
  });
  __syncwarp();
  for_elements(rows, columns, [&](int i, int row, int column) {
    *reinterpret_cast<Element*>(stage + staged_offset<T, Tile>(row, column)) = __ldg(data + i);
  });
  __syncwarp();
}

template <class T, class Tile>
__device__ __forceinline__ void store_staged(const typename Tile::Rows& from,
                                             typename T::Element* data, int rows, int columns,
                                             unsigned char* stage) {
  using Element = typename T::Element;
  __syncwarp();  // the warp has read what lay here before
  for_chunks<Tile>(columns, [&](int m, int n, int half) {
    store_16(staged_chunk<Tile>(stage, m, n, half), from[m][n][half]);
  });
  __syncwarp();
  for_elements(rows, columns, [&](int i, int row, int column) {
    data[i] = *reinterpret_cast<const Element*>(stage + staged_offset<T, Tile>(row, column));
  });
}

}  // namespace pyfastnn::cuda
