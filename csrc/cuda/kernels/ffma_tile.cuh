// The float32 product without tensor cores: a block's tile of C = A B^T from operands in shared
// memory, both with their rows along k, 4 numbers at a time.
//
// Half a warp lies along the columns of C, so that what lanes read of B are neighbouring rows, and
// what they write to C are neighbouring numbers. The two halves take rows of A apart.
#pragma once

#include "numbers.cuh"

namespace pyfastnn::cuda {

constexpr int kSliceK = 32;                // k in shared memory at a time
constexpr int kSliceStride = kSliceK + 4;  // an odd number of chunks: 8 rows meet 8 different banks

// ROWS x COLUMNS of C, 8 x TN of them in each thread.
template <int ROWS, int COLUMNS>
struct FfmaTile {
  static constexpr int kTM = 8, kTN = COLUMNS / 16;
  static constexpr int kThreads = ROWS / kTM * 16;
  static constexpr int kWarps = kThreads / 32;

  // Row i and column j of this thread's part.
  static __device__ __forceinline__ int row(int i) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    return warp % 4 + lane / 16 * 4 + warp / 4 * 8 + i * (ROWS / kTM);
  }
  static __device__ __forceinline__ int column(int j) { return threadIdx.x % 16 + 16 * j; }
};

// acc += A B^T over `count` of k, a multiple of 4. Strides in floats.
template <class Tile, int A_STRIDE>
__device__ __forceinline__ void multiply_slice(float (&acc)[Tile::kTM][Tile::kTN], const float* a,
                                               const float* b, int count) {
  const float* rows = a + Tile::row(0) * A_STRIDE;
  const float* columns = b + Tile::column(0) * kSliceStride;
  const int row_step = (Tile::row(1) - Tile::row(0)) * A_STRIDE;
#pragma unroll 2
  for (int k = 0; k < count; k += 4) {
    float4 x[Tile::kTM];
#pragma unroll
    for (int i = 0; i < Tile::kTM; ++i)
      x[i] = *reinterpret_cast<const float4*>(rows + i * row_step + k);
#pragma unroll
    for (int j = 0; j < Tile::kTN; ++j) {
      const float4 w = *reinterpret_cast<const float4*>(columns + 16 * j * kSliceStride + k);
#pragma unroll
      for (int i = 0; i < Tile::kTM; ++i) {
        acc[i][j] = fmaf(x[i].x, w.x, acc[i][j]);
        acc[i][j] = fmaf(x[i].y, w.y, acc[i][j]);
        acc[i][j] = fmaf(x[i].z, w.z, acc[i][j]);
        acc[i][j] = fmaf(x[i].w, w.w, acc[i][j]);
      }
    }
  }
}

// Brings columns [k0, k0 + 32) of rows [first, first + ROWS) of a matrix to a slice in shared
// memory; zeros behind its last row and column. whole: its rows are whole 16-byte words.
template <int ROWS, int THREADS>
__device__ __forceinline__ void bring_slice(float* slice, const float* matrix, int64_t first,
                                            int64_t rows, int64_t k0, int64_t columns, int64_t ld,
                                            bool whole) {
  constexpr int kChunks = kSliceK / 4;
  const int chunk = threadIdx.x % kChunks;
  const int64_t k = k0 + chunk * 4;
  const int left = static_cast<int>(min(columns - k, int64_t{4}));
#pragma unroll 4
  for (int row = threadIdx.x / kChunks; row < ROWS; row += THREADS / kChunks) {
    const int valid = first + row < rows ? left : 0;
    const float* from = matrix + (valid > 0 ? (first + row) * ld + k : 0);
    float* to = slice + row * kSliceStride + chunk * 4;
    if (whole) {
      copy_16(shared_address(to), from, valid > 0);
    } else {
      Chunk words;
      load_elements(words, from, valid);
      store_16(shared_address(to), words);
    }
  }
}

}  // namespace pyfastnn::cuda
