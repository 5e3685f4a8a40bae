// Weight gradients of 16-bit types on tensor cores. Both operands lie with their rows along the
// wrong dimension, which ldmatrix puts right on the way. Bias gradients are one more column of
// ones.
#pragma once

#include "wgrad_rows.cuh"

namespace pyfastnn::cuda {

template <int WIDTH>
struct WgradTile {
  static constexpr int kWarpsN = 2, kWarpsK = WIDTH / 32;  // a warp has WIDTH / 2 x 32 of dW
  static constexpr int kThreads = 32 * kWarpsN * kWarpsK;
  static constexpr int kMTiles = WIDTH / 32;  // of 16 rows of dW
  static constexpr int kNTiles = 4;           // of 8 columns
  static constexpr int kStages = 3;
  static constexpr int kChunks = WIDTH / 8;
  static constexpr int kStride = WIDTH * 2;                  // bytes
  static constexpr int kMatrix = kWgradStageRows * kStride;  // bytes
  static constexpr int kStage = 2 * kMatrix;
  static constexpr int kShared = kStages * kStage;

  // Chunks of a row are exchanged so that the same chunk of 8 rows lies in 8 different banks.
  static __device__ __forceinline__ int place(int row, int chunk) {
    return row * kStride + (chunk ^ (row % 8)) * kChunkBytes;
  }
};

template <class T, int WIDTH>
__global__ void __launch_bounds__(WgradTile<WIDTH>::kThreads)
    wgrad_mma(const __grid_constant__ Wgrad args) {
  using Tile = WgradTile<WIDTH>;
  extern __shared__ __align__(128) unsigned char shared[];
  const WgradLayer& layer = args.layers[blockIdx.y];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int n0 = warp % Tile::kWarpsN * (WIDTH / 2), k0 = warp / Tile::kWarpsN * 32;
  const int64_t begin = blockIdx.x * args.rows_per_split;
  const int64_t end = min(begin + args.rows_per_split, args.rows);
  const int steps = static_cast<int>((end - begin + kWgradStageRows - 1) / kWgradStageRows);
  RowMover<T, Tile> grad_z(layer.grad_z, layer.out, layer.ld_z, begin, end - begin, layer.whole_z,
                           shared);
  RowMover<T, Tile> input(layer.input, layer.in, layer.in, begin, end - begin, layer.whole_input,
                          shared + Tile::kMatrix);
  auto bring = [&](int step, uint32_t offset) {
    if (step < steps) {
      grad_z.bring(offset);
      input.bring(offset);
    }
    commit_copies();
  };

  // Where this lane's row of each 8 x 8 matrix lies. A: columns n and n + 8 of rows 0..7, then of
  // rows 8..15; B: rows 0..7 and 8..15 of columns k, then of columns k + 8.
  const int row_a = lane % 8 + lane / 16 * 8, row_b = lane % 16;
  uint32_t at_a[Tile::kMTiles], at_b[Tile::kNTiles / 2];
  const uint32_t start = shared_address(shared);
#pragma unroll
  for (int i = 0; i < Tile::kMTiles; ++i)
    at_a[i] = in_register(start + row_a * Tile::kStride +
                          ((n0 / 8 + 2 * i + lane / 8 % 2) ^ (lane % 8)) * kChunkBytes);
#pragma unroll
  for (int j = 0; j < Tile::kNTiles / 2; ++j)
    at_b[j] = in_register(start + Tile::kMatrix + row_b * Tile::kStride +
                          ((k0 / 8 + 2 * j + lane / 16) ^ (lane % 8)) * kChunkBytes);

  float acc[Tile::kMTiles][Tile::kNTiles][4] = {};
  float bias[Tile::kMTiles][4] = {};
  const bool used = n0 < layer.out && k0 < layer.in, with_bias = k0 == 0;
#pragma unroll
  for (int step = 0; step < Tile::kStages - 1; ++step) bring(step, step * Tile::kStage);
  uint32_t here = 0, there = (Tile::kStages - 1) * Tile::kStage;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<Tile::kStages - 2>();
    __syncthreads();  // this stage is there for all, and the one before is free
    bring(step + Tile::kStages - 1, there);
    if (used)
      unroll<kWgradStageRows / 16>([&](auto m) {
        constexpr int kOffset = m * 16 * Tile::kStride;
        Chunk a[Tile::kMTiles], b[Tile::kNTiles / 2];
#pragma unroll
        for (int i = 0; i < Tile::kMTiles; ++i)
          load_matrices_transposed<kOffset>(a[i], at_a[i] + here);
#pragma unroll
        for (int j = 0; j < Tile::kNTiles / 2; ++j)
          load_matrices_transposed<kOffset>(b[j], at_b[j] + here);
#pragma unroll
        for (int i = 0; i < Tile::kMTiles; ++i)
#pragma unroll
          for (int j = 0; j < Tile::kNTiles; ++j) {
            float (&d)[4] = acc[i][j];
            T::mma(d, a[i][0], a[i][1], a[i][2], a[i][3], b[j / 2][j % 2 * 2],
                   b[j / 2][j % 2 * 2 + 1], d[0], d[1], d[2], d[3]);
          }
        if (with_bias)
#pragma unroll
          for (int i = 0; i < Tile::kMTiles; ++i) {
            float (&d)[4] = bias[i];
            T::mma(d, a[i][0], a[i][1], a[i][2], a[i][3], T::kOnes, T::kOnes, d[0], d[1], d[2],
                   d[3]);
          }
      });
    there = here;
    here = here == (Tile::kStages - 1) * Tile::kStage ? 0 : here + Tile::kStage;
  }

  const int g = lane / 4, t = lane % 4, out = layer.out, in = layer.in;
  float* weight_part = layer.weight_parts + static_cast<int64_t>(blockIdx.x) * out * in;
  float* bias_part = layer.bias_parts + static_cast<int64_t>(blockIdx.x) * out;
#pragma unroll
  for (int i = 0; i < Tile::kMTiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int n = n0 + 16 * i + 8 * half + g;
      if (n >= out) continue;
      if (layer.weight_parts != nullptr)
#pragma unroll
        for (int j = 0; j < Tile::kNTiles; ++j) {
          const int k = k0 + 8 * j + 2 * t;
          float* to = weight_part + n * in + k;
          const float low = acc[i][j][2 * half], high = acc[i][j][2 * half + 1];
          if (in % 2 == 0) {
            if (k < in) *reinterpret_cast<float2*>(to) = make_float2(low, high);
          } else {
            if (k < in) to[0] = low;
            if (k + 1 < in) to[1] = high;
          }
        }
      if (layer.bias_parts != nullptr && k0 == 0 && t == 0) bias_part[n] = bias[i][2 * half];
    }
}

}  // namespace pyfastnn::cuda
