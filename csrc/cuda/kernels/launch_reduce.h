// The second stage of sums over rows; reduce.cu.
#pragma once

#include <vector>

#include "../plan.h"
#include "launching.h"

namespace pyfastnn::cuda {

// A result and the parts that add up to it.
struct Segment {
  const void* parts;  // [splits, count] sums
  void* result;       // [count] elements
  int64_t count;
};

// Adds the parts of all segments, in their order; no parts make zeros.
cudaError_t launch_reduce(const std::vector<Segment>& list, int64_t splits, DType dtype,
                          cudaStream_t stream);

}  // namespace pyfastnn::cuda
