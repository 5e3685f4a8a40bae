// dZ = dY where not (Y <= 0), and sums of its columns, in one pass over memory. A block takes some
// rows and up to 32 chunks of 16 bytes; threads side by side take chunks, the others every n-th
// row. Sums go to memory as parts, one for each block of rows (reduce.cuh adds them).
#pragma once

#include "numbers.cuh"

namespace pyfastnn::cuda {

struct MaskBiasRows {
  const void* grad_output;  // [rows, out]
  const void* output;       // or null: no mask
  void* grad_z;             // or null
  void* parts;              // [splits, out] sums, or null
  int64_t rows, out, rows_per_split;
  int chunks;  // side by side in a block: a power of two, up to 32
  bool whole;  // rows are whole 16-byte words
};

constexpr int kMaskBiasThreads = 256;

// A chunk as its elements; plain accesses, as dZ may be dY.
template <class T>
struct Elements {
  typename T::Element at[T::kElements];

  __device__ __forceinline__ void load(const typename T::Element* from, int64_t valid, bool whole) {
    if (whole) {
      *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(from);
    } else {
#pragma unroll
      for (int e = 0; e < T::kElements; ++e) at[e] = e < valid ? from[e] : typename T::Element{};
    }
  }
  __device__ __forceinline__ void store(typename T::Element* to, int64_t valid, bool whole) const {
    if (whole) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(at);
    } else {
#pragma unroll
      for (int e = 0; e < T::kElements; ++e)
        if (e < valid) to[e] = at[e];
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kMaskBiasThreads)
    mask_bias_rows(const __grid_constant__ MaskBiasRows args) {
  using Element = typename T::Element;
  using Sum = typename T::Sum;
  constexpr int kElements = T::kElements;
  // Sum e of a thread lies with those of its neighbours; so far apart that no bank is met twice,
  // neither when they are written nor when they are read.
  constexpr int kApart = kMaskBiasThreads + 128 / (kElements * sizeof(Sum));
  __shared__ __align__(16) Sum sums[kApart * kElements];
  const int chunks = args.chunks, step = kMaskBiasThreads / chunks;
  const int chunk = threadIdx.x % chunks, first = threadIdx.x / chunks;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * chunks + chunk) * kElements;
  const int64_t valid = args.out - column;
  const int64_t begin = blockIdx.y * args.rows_per_split;
  const int64_t end = min(begin + args.rows_per_split, args.rows);

  Sum sum[kElements] = {};
  if (valid > 0) {
#pragma unroll 4
    for (int64_t row = begin + first; row < end; row += step) {
      const int64_t at = row * args.out + column;
      alignas(16) Elements<T> dz;
      dz.load(static_cast<const Element*>(args.grad_output) + at, valid, args.whole);
      if (args.output != nullptr) {
        alignas(16) Elements<T> y;
        y.load(static_cast<const Element*>(args.output) + at, valid, args.whole);
#pragma unroll
        for (int e = 0; e < kElements; ++e)
          if (T::to_float(y.at[e]) <= 0) dz.at[e] = Element{};
      }
      if (args.grad_z != nullptr)
        dz.store(static_cast<Element*>(args.grad_z) + at, valid, args.whole);
#pragma unroll
      for (int e = 0; e < kElements; ++e) sum[e] += T::to_float(dz.at[e]);
    }
  }
  if (args.parts == nullptr) return;

#pragma unroll
  for (int e = 0; e < kElements; ++e) sums[e * kApart + threadIdx.x] = sum[e];
  __syncthreads();
  const int width = chunks * kElements;
  for (int i = threadIdx.x; i < width; i += kMaskBiasThreads) {
    const int64_t to = static_cast<int64_t>(blockIdx.x) * width + i;
    if (to >= args.out) break;
    Sum total = 0;
    const Sum* from = sums + i % kElements * kApart + i / kElements;
    for (int r = 0; r < step; ++r) total += from[r * chunks];
    static_cast<Sum*>(args.parts)[blockIdx.y * args.out + to] = total;
  }
}

}  // namespace pyfastnn::cuda
