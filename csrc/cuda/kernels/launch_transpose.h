// W^T of many layers, for the data gradient: there rows of W^T play the part of rows of W;
// transpose.cu.
#pragma once

#include <vector>

#include "../plan.h"
#include "launching.h"

namespace pyfastnn::cuda {

struct TransposeLayer {
  const void* weight;  // [out, in]
  void* transposed;    // [in, ld], filled up with zeros
  int16_t out, in, ld;
};

// width: the largest of all sizes. Weights for TF32 are rounded to it.
cudaError_t launch_transpose(const std::vector<TransposeLayer>& list, int64_t width, DType dtype,
                             Float32Math math, cudaStream_t stream);

}  // namespace pyfastnn::cuda
