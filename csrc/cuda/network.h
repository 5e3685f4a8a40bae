// What the two directions of a network share; the interface is launch.h.
#pragma once

#include "launch.h"

namespace pyfastnn::cuda {

// Whether layers fit one another and the whole-network kernels.
bool is_valid_network(const Layer* layers, int64_t depth, DType dtype);

// The largest of all widths.
int64_t widest(const Layer* layers, int64_t depth);

}  // namespace pyfastnn::cuda
