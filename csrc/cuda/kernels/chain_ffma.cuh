// The chain in float32 without tensor cores. Results of a layer lie in shared memory, where the
// next layer finds them; weights pass by in slices of 32 along k, the next slice while this one is
// multiplied.
#pragma once

#include "chain.h"
#include "ffma_tile.cuh"

namespace pyfastnn::cuda {

template <int WIDTH>
struct ChainFfma {
  static constexpr int kRows = 64;
  using Tile = FfmaTile<kRows, WIDTH>;
  static constexpr int kThreads = Tile::kThreads;
  static constexpr int kBlocks = WIDTH == 64 ? 3 : 2;  // of a multiprocessor, at least
  static constexpr int kStride = WIDTH + 4;            // floats from row to row of the results
  static constexpr int kSlice = WIDTH * kSliceStride;
  static constexpr int kShared = (kRows * kStride + 2 * kSlice) * static_cast<int>(sizeof(float));
};

// The input of the chain, with zeros up to the end of the last slice; for dgrad masked first.
template <int WIDTH, Pass PASS>
__device__ __forceinline__ void load_rows(float* act, const Chain& chain, int64_t first) {
  using C = ChainFfma<WIDTH>;
  const int columns = (chain.in + kSliceK - 1) / kSliceK * kSliceK;
  const int column = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int r = warp; r < C::kRows; r += C::kThreads / 32)
    for (int c = column; c < columns; c += 32) {
      const int64_t row = first + r;
      float value = 0;
      if (row < chain.rows && c < chain.in) {
        value = __ldg(static_cast<const float*>(chain.input) + row * chain.input_ld + c);
        if (PASS == Pass::kDgrad && chain.input_mask != nullptr &&
            __ldg(static_cast<const float*>(chain.input_mask) + row * chain.in + c) <= 0)
          value = 0;
        if (PASS == Pass::kDgrad && chain.masked_input != nullptr)
          static_cast<float*>(chain.masked_input)[row * chain.masked_ld + c] = value;
      }
      act[r * C::kStride + c] = value;
    }
}

// What becomes of a row of sums, where it goes; columns behind the last one become zeros, whatever
// they hold.
template <class Tile, Pass PASS>
__device__ __forceinline__ void finish_row(const float (&sums)[Tile::kTN],
                                           const float (&bias)[Tile::kTN], const ChainLayer& layer,
                                           int64_t row, bool exists, float* act) {
  const float* mask = static_cast<const float*>(layer.extra);
  float* output = static_cast<float*>(layer.output);
  if (mask != nullptr) mask += row * layer.out;
  if (output != nullptr) output += row * layer.output_ld;
#pragma unroll
  for (int j = 0; j < Tile::kTN; ++j) {
    const int column = Tile::column(j);
    float value = 0;
    if (column < layer.out) {
      value = sums[j];
      if (PASS == Pass::kFprop) {
        value += bias[j];
        if (layer.relu) value = relu(value);
      } else if (mask != nullptr && exists && __ldg(mask + column) <= 0) {
        value = 0;
      }
      if (output != nullptr && exists) output[column] = value;
    }
    act[column] = value;
  }
}

template <int WIDTH, Pass PASS>
__global__ void __launch_bounds__(ChainFfma<WIDTH>::kThreads, ChainFfma<WIDTH>::kBlocks)
    chain_ffma(const __grid_constant__ Chain chain) {
  using C = ChainFfma<WIDTH>;
  using Tile = typename C::Tile;
  extern __shared__ __align__(128) float floats[];
  float* act = floats;                             // [kRows, kStride]
  float* slices = floats + C::kRows * C::kStride;  // [2][WIDTH, kSliceStride]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * C::kRows;

  auto bring = [&](const ChainLayer& layer, int k0, float* slice) {
    bring_slice<WIDTH, C::kThreads>(slice, static_cast<const float*>(layer.weight), 0, layer.out,
                                    k0, layer.in, layer.weight_ld, layer.whole & kWholeWeight);
    commit_copies();
  };
  if (chain.depth > 0) bring(chain.layers[0], 0, slices);
  load_rows<WIDTH, PASS>(act, chain, first);

  int slot = 0;
#pragma unroll 1
  for (int l = 0; l < chain.depth; ++l) {
    const ChainLayer& layer = chain.layers[l];
    float acc[Tile::kTM][Tile::kTN] = {};
    float bias[Tile::kTN] = {};
    if (PASS == Pass::kFprop && layer.extra != nullptr)
#pragma unroll
      for (int j = 0; j < Tile::kTN; ++j)
        if (Tile::column(j) < layer.out)
          bias[j] = __ldg(static_cast<const float*>(layer.extra) + Tile::column(j));

#pragma unroll 1
    for (int k0 = 0; k0 < layer.in; k0 += kSliceK) {
      wait_for_copies<0>();
      __syncthreads();  // slice and results are there for all, the other slot is free
      float* next = slices + (slot ^ 1) * C::kSlice;
      if (k0 + kSliceK < layer.in)
        bring(layer, k0 + kSliceK, next);
      else if (l + 1 < chain.depth)
        bring(chain.layers[l + 1], 0, next);
      const int count = min(kSliceK, (layer.in - k0 + 3) / 4 * 4);
      multiply_slice<Tile, C::kStride>(acc, act + k0, slices + slot * C::kSlice, count);
      slot ^= 1;
    }
    __syncthreads();  // nobody reads the inputs of this layer any more

#pragma unroll
    for (int i = 0; i < Tile::kTM; ++i) {
      const int64_t row = first + Tile::row(i);
      finish_row<Tile, PASS>(acc[i], bias, layer, row, row < chain.rows,
                             act + Tile::row(i) * C::kStride);
    }
  }
}

}  // namespace pyfastnn::cuda
