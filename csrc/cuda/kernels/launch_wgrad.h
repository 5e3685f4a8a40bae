// Parts of the weight and bias gradients of many layers; wgrad.cu.
#pragma once

#include <vector>

#include "../plan.h"
#include "launching.h"
#include "wgrad.h"

namespace pyfastnn::cuda {

cudaError_t launch_wgrad(const std::vector<WgradLayer>& list, int64_t rows, Split split,
                         int64_t width, DType dtype, Float32Math math, cudaStream_t stream);

}  // namespace pyfastnn::cuda
