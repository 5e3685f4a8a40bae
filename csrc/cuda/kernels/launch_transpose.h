// W^T of many layers, for the data gradient: there rows of W^T play the part of rows of W;
// transpose.cu.
#pragma once

#include <vector>

#include "launching.h"

namespace pyfastnn::cuda {

struct TransposeLayer {
  const void* weight;  // [out, in]
  void* transposed;    // [in, ld], filled up with zeros
  int16_t out, in, ld;
};

// width: the largest of all sizes. element: bytes, 2 or 4.
cudaError_t launch_transpose(const std::vector<TransposeLayer>& list, int64_t width,
                             int64_t element, cudaStream_t stream);

}  // namespace pyfastnn::cuda
