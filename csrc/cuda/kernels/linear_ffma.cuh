// One layer in float32 without tensor cores. Slices of both operands along k pass through shared
// memory, the next one while this one is multiplied.
#pragma once

#include "ffma_tile.cuh"
#include "linear.h"

namespace pyfastnn::cuda {

template <int ROWS, int COLUMNS>
struct LinearFfma {
  using Tile = FfmaTile<ROWS, COLUMNS>;
  static constexpr int kThreads = Tile::kThreads;
  static constexpr int kBlocks = ROWS == 128 ? 1 : 3;             // of a multiprocessor, at least
  static constexpr int kStage = (ROWS + COLUMNS) * kSliceStride;  // floats
  static constexpr int kShared = 2 * kStage * static_cast<int>(sizeof(float));
};

template <int ROWS, int COLUMNS>
__global__ void __launch_bounds__(LinearFfma<ROWS, COLUMNS>::kThreads,
                                  LinearFfma<ROWS, COLUMNS>::kBlocks)
    linear_ffma(const __grid_constant__ LinearArgs args) {
  using L = LinearFfma<ROWS, COLUMNS>;
  using Tile = typename L::Tile;
  extern __shared__ __align__(128) float floats[];
  const int64_t row0 = static_cast<int64_t>(blockIdx.x % args.row_tiles) * ROWS;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x / args.row_tiles) * COLUMNS;
  auto stage_of = [&](int64_t k0) { return floats + k0 / kSliceK % 2 * L::kStage; };
  auto bring = [&](int64_t k0) {
    float* to = stage_of(k0);
    bring_slice<ROWS, L::kThreads>(to, static_cast<const float*>(args.input), row0, args.rows, k0,
                                   args.in, args.in, args.whole_input);
    bring_slice<COLUMNS, L::kThreads>(to + ROWS * kSliceStride,
                                      static_cast<const float*>(args.weight), column0, args.out, k0,
                                      args.in, args.in, args.whole_weight);
    commit_copies();
  };

  float acc[Tile::kTM][Tile::kTN] = {};
  if (args.in > 0) bring(0);
#pragma unroll 1
  for (int64_t k0 = 0; k0 < args.in; k0 += kSliceK) {
    wait_for_copies<0>();
    __syncthreads();  // this slice is there for all, and the other one is free
    if (k0 + kSliceK < args.in) bring(k0 + kSliceK);
    const float* slice = stage_of(k0);
    multiply_slice<Tile, kSliceStride>(acc, slice, slice + ROWS * kSliceStride, kSliceK);
  }

#pragma unroll
  for (int j = 0; j < Tile::kTN; ++j) {
    const int64_t column = column0 + Tile::column(j);
    if (column >= args.out) continue;
    const float bias =
        args.bias == nullptr ? 0 : __ldg(static_cast<const float*>(args.bias) + column);
#pragma unroll
    for (int i = 0; i < Tile::kTM; ++i) {
      const int64_t row = row0 + Tile::row(i);
      if (row >= args.rows) continue;
      const float sum = acc[i][j] + bias;
      static_cast<float*>(args.output)[row * args.out + column] = args.relu ? relu(sum) : sum;
    }
  }
}

}  // namespace pyfastnn::cuda
