// The chain of a network's data gradients: instances of its kernels.
#include "kernels/launch_chain.cuh"

namespace pyfastnn::cuda {

template cudaError_t launch_chain<Pass::kDgrad>(const Chain&, int64_t, DType, Float32Math,
                                                cudaStream_t);

}  // namespace pyfastnn::cuda
