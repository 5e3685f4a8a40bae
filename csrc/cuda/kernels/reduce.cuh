// The second stage of every sum over rows: parts that blocks left in memory, added in their order.
#pragma once

#include "launch_reduce.h"
#include "numbers.cuh"

namespace pyfastnn::cuda {

constexpr int kMaxSegments = 160;  // as many as fit the 4 KB of kernel parameters

struct Segments {
  int64_t splits;
  Segment list[kMaxSegments];
};
static_assert(sizeof(Segments) <= 4096, "kernel parameters end at 4 KB");

constexpr int kReduceThreads = 256;

// Block (x, y): numbers [256 x, 256 x + 256) of segment y.
template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    reduce(const __grid_constant__ Segments segments) {
  using Sum = typename T::Sum;
  const Segment& segment = segments.list[blockIdx.y];
  const int64_t count = segment.count;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  if (i >= count) return;
  const Sum* parts = static_cast<const Sum*>(segment.parts) + i;
  Sum sum = 0;
#pragma unroll 8
  for (int64_t s = 0; s < segments.splits; ++s) sum += __ldg(parts + s * count);
  static_cast<typename T::Element*>(segment.result)[i] = T::rounded(sum);
}

}  // namespace pyfastnn::cuda
