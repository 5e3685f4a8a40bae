// Weight gradients of float32. Rows of both operands lie in shared memory as they came, which is
// the order that both ways of multiplying want: exact sums of outer products, or TF32 mma, whose
// words come four at a time (a lane's columns of dZ are 4g .. 4g + 3 of 32, its columns of X too).
//
// Bias gradients: every thread adds up what it brought itself, before it is rounded.
#pragma once

#include <type_traits>

#include "wgrad_rows.cuh"

namespace pyfastnn::cuda {

template <int WIDTH, bool TF32>
struct WgradF32Tile {
  static constexpr int kWarpsN = 2, kWarpsK = WIDTH / 32;  // TF32: a warp has WIDTH / 2 x 32 of dW
  static constexpr int kThreads = TF32 ? 32 * kWarpsN * kWarpsK : 256;
  static constexpr int kBlocks = WIDTH / 64;  // TF32: 32 rows of dW; FFMA: 4 x 4 in each dimension
  static constexpr int kChunks = WIDTH / 4;
  static constexpr int kStages = 2;
  static constexpr int kStride =
      (WIDTH + 8) * 4;  // bytes: lanes of 2 g and 4 t meet different banks
  static constexpr int kMatrix = kWgradStageRows * kStride;
  static constexpr int kStage = 2 * kMatrix;
  static constexpr int kShared = kStages * kStage;

  static __device__ __forceinline__ int place(int row, int chunk) {
    return row * kStride + chunk * kChunkBytes;
  }
};

// What this thread brought: adds dZ to the sums of its four columns, and rounds for TF32.
template <class Tile, bool TF32>
__device__ __forceinline__ void visit_own_words(const RowMover<F32, Tile>& grad_z,
                                                const RowMover<F32, Tile>& input, uint32_t stage,
                                                float (&sums)[4]) {
  grad_z.for_own_words(stage, [&](auto place, uint32_t at) {
    float four[4];
    load_16<place>(four, at);
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[e] += four[e];
    if constexpr (TF32) {
      const Chunk rounded = {round_tf32(four[0]), round_tf32(four[1]), round_tf32(four[2]),
                             round_tf32(four[3])};
      store_16<place>(at, rounded);
    }
  });
  if constexpr (TF32)
    input.for_own_words(stage, [](auto place, uint32_t at) { round_shared<place>(at); });
}

// Exact: each thread has kBlocks x kBlocks blocks of 4 x 4, 64 apart.
template <int WIDTH>
struct WgradFfma {
  using Tile = WgradF32Tile<WIDTH, false>;
  static constexpr int kBlocks = Tile::kBlocks;
  float acc[kBlocks][4][kBlocks][4] = {};

  __device__ __forceinline__ void add(uint32_t stage) {
    const uint32_t z = stage + threadIdx.x / 16 * 16;
    const uint32_t x = stage + Tile::kMatrix + threadIdx.x % 16 * 16;
#pragma unroll 4
    for (int m = 0; m < kWgradStageRows; ++m) {
      float a[kBlocks][4], b[kBlocks][4];
      unroll<kBlocks>([&](auto i) {
        load_16<256 * i>(a[i], z + m * Tile::kStride);
        load_16<256 * i>(b[i], x + m * Tile::kStride);
      });
#pragma unroll
      for (int i = 0; i < kBlocks; ++i)
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int j = 0; j < kBlocks; ++j)
#pragma unroll
            for (int c = 0; c < 4; ++c) acc[i][r][j][c] = fmaf(a[i][r], b[j][c], acc[i][r][j][c]);
    }
  }

  // visit(n, k, four): dW[n, k .. k + 3]
  template <class Visit>
  __device__ __forceinline__ void for_results(Visit visit) const {
    const int n0 = threadIdx.x / 16 * 4, k0 = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i)
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int j = 0; j < kBlocks; ++j) visit(n0 + 64 * i + r, k0 + 64 * j, acc[i][r][j]);
  }
};

// TF32: a warp has kBlocks x 32 rows and 32 columns of dW. Of 32 rows, mma tile i has rows 4g + 2i
// in its slots g and rows 4g + 2i + 1 in its slots g + 8; tile j has columns 4g + j in its slots g.
template <int WIDTH>
struct WgradTf32 {
  using Tile = WgradF32Tile<WIDTH, true>;
  static constexpr int kBlocks = Tile::kBlocks;
  float acc[kBlocks][2][4][4] = {};

  static __device__ __forceinline__ int n0() {
    return threadIdx.x / 32 % Tile::kWarpsN * (WIDTH / 2);
  }
  static __device__ __forceinline__ int k0() { return threadIdx.x / 32 / Tile::kWarpsN * 32; }

  __device__ __forceinline__ void add(uint32_t stage) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const uint32_t z = in_register(stage + t * Tile::kStride + (n0() + 4 * g) * 4);
    const uint32_t x = in_register(stage + Tile::kMatrix + t * Tile::kStride + (k0() + 4 * g) * 4);
    unroll<kWgradStageRows / 8>([&](auto step) {
      constexpr int kRow = Tile::kStride;
      Chunk b[2];
      load_16<8 * step * kRow>(b[0], x);
      load_16<(8 * step + 4) * kRow>(b[1], x);
      unroll<kBlocks>([&](auto block) {
        Chunk a[2];
        load_16<8 * step * kRow + 128 * block>(a[0], z);
        load_16<(8 * step + 4) * kRow + 128 * block>(a[1], z);
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            float (&d)[4] = acc[block][i][j];
            Tf32::mma(d, a[0][2 * i], a[0][2 * i + 1], a[1][2 * i], a[1][2 * i + 1], b[0][j],
                      b[1][j], d[0], d[1], d[2], d[3]);
          }
      });
    });
  }

  template <class Visit>
  __device__ __forceinline__ void for_results(Visit visit) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            float four[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) four[j] = acc[block][i][j][2 * half + c];
            visit(n0() + 32 * block + 4 * g + 2 * i + half, k0() + 4 * (2 * t + c), four);
          }
  }
};

template <int WIDTH, bool TF32>
__global__ void __launch_bounds__(WgradF32Tile<WIDTH, TF32>::kThreads)
    wgrad_f32(const __grid_constant__ Wgrad args) {
  using Tile = WgradF32Tile<WIDTH, TF32>;
  extern __shared__ __align__(128) float floats[];
  const WgradLayer& layer = args.layers[blockIdx.y];
  const int64_t begin = blockIdx.x * args.rows_per_split;
  const int64_t end = min(begin + args.rows_per_split, args.rows);
  const int steps = static_cast<int>((end - begin + kWgradStageRows - 1) / kWgradStageRows);
  unsigned char* stages = reinterpret_cast<unsigned char*>(floats);
  RowMover<F32, Tile> grad_z(layer.grad_z, layer.out, layer.ld_z, begin, end - begin, layer.whole_z,
                             stages);
  RowMover<F32, Tile> input(layer.input, layer.in, layer.in, begin, end - begin, layer.whole_input,
                            stages + Tile::kMatrix);
  auto bring = [&](uint32_t offset) {
    grad_z.bring(offset);
    input.bring(offset);
    commit_copies();
  };

  std::conditional_t<TF32, WgradTf32<WIDTH>, WgradFfma<WIDTH>> product;
  float sums[4] = {};
  bring(0);
  uint32_t here = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<0>();
    visit_own_words<Tile, TF32>(grad_z, input, here, sums);
    __syncthreads();  // this stage is there for all, and the other one is free
    if (step + 1 < steps) bring(here ^ Tile::kStage);
    product.add(shared_address(stages) + here);
    here ^= Tile::kStage;
  }

  const int out = layer.out, in = layer.in;
  if (layer.weight_parts != nullptr) {
    float* part = layer.weight_parts + static_cast<int64_t>(blockIdx.x) * out * in;
    product.for_results([&](int n, int k, const float (&four)[4]) {
      if (n >= out) return;
      float* to = part + n * in + k;
      if (in % 4 == 0) {
        if (k < in)
          *reinterpret_cast<float4*>(to) = make_float4(four[0], four[1], four[2], four[3]);
      } else {
#pragma unroll
        for (int c = 0; c < 4; ++c)
          if (k + c < in) to[c] = four[c];
      }
    });
  }
  if (layer.bias_parts != nullptr) {
    __syncthreads();  // nobody reads the stages any more
    *reinterpret_cast<float4*>(floats + threadIdx.x * 4) =
        make_float4(sums[0], sums[1], sums[2], sums[3]);
    __syncthreads();
    const int n = threadIdx.x;
    if (n < out) {
      float sum = 0;
#pragma unroll
      for (int group = 0; group < Tile::kThreads / Tile::kChunks; ++group)
        sum += floats[group * WIDTH + n];
      layer.bias_parts[static_cast<int64_t>(blockIdx.x) * out + n] = sum;
    }
  }
}

}  // namespace pyfastnn::cuda
