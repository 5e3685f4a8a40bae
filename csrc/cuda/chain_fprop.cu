// The chain of a network's forward: instances of its kernels.
#include "kernels/launch_chain.cuh"

namespace pyfastnn::cuda {

template cudaError_t launch_chain<Pass::kFprop>(const Chain&, int64_t, DType, Float32Math,
                                                cudaStream_t);

}  // namespace pyfastnn::cuda
