// Launches the chain: network_forward.cu and network_backward.cu call it, chain_fprop.cu and
// chain_dgrad.cu have its instances.
#pragma once

#include "../plan.h"
#include "chain.h"
#include "launching.h"

namespace pyfastnn::cuda {

// width: of the widest layer of the whole network, not of this part of it.
template <Pass PASS>
cudaError_t launch_chain(const Chain& chain, int64_t width, DType dtype, Float32Math math,
                         cudaStream_t stream);

}  // namespace pyfastnn::cuda
