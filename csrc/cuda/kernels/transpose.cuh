// Transposed weights, tile by tile through shared memory, rounded if they are for mma of TF32.
#pragma once

#include "launch_transpose.h"
#include "numbers.cuh"

namespace pyfastnn::cuda {

constexpr int kMaxTranspose = 160;

struct Transpose {
  TransposeLayer layers[kMaxTranspose];
};
static_assert(sizeof(Transpose) <= 4096, "kernel parameters end at 4 KB");

constexpr int kTransposeTile = 32, kTransposeThreads = 256;

// Block (x, y, z): the tile at rows 32 y, columns 32 x of the transposed weights of layer z.
template <class Element, bool TF32>
__global__ void __launch_bounds__(kTransposeThreads)
    transpose(const __grid_constant__ Transpose args) {
  __shared__ Element tile[kTransposeTile][kTransposeTile + 4 / sizeof(Element)];
  const TransposeLayer& layer = args.layers[blockIdx.z];
  const int column = threadIdx.x % kTransposeTile, first = threadIdx.x / kTransposeTile;
  const int n0 = blockIdx.x * kTransposeTile, k0 = blockIdx.y * kTransposeTile;
  if (n0 >= layer.ld || k0 >= layer.in) return;
  constexpr int kStep = kTransposeThreads / kTransposeTile;
#pragma unroll
  for (int r = first; r < kTransposeTile; r += kStep) {
    const int n = n0 + r, k = k0 + column;
    const bool exists = n < layer.out && k < layer.in;
    tile[r][column] =
        exists ? __ldg(static_cast<const Element*>(layer.weight) + n * layer.in + k) : Element{};
  }
  __syncthreads();
#pragma unroll
  for (int r = first; r < kTransposeTile; r += kStep) {
    const int n = n0 + column, k = k0 + r;
    if (n >= layer.ld || k >= layer.in) continue;
    Element value = tile[column][r];
    if constexpr (TF32) value = __uint_as_float(round_tf32(value));
    static_cast<Element*>(layer.transposed)[k * layer.ld + n] = value;
  }
}

}  // namespace pyfastnn::cuda
