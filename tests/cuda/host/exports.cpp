// launch.h and plan.h under C names, for ctypes.
#include "cuda/launch.h"

using namespace pyfastnn::cuda;

extern "C" {

int run_linear(const Linear* args) { return linear(*args, nullptr); }
int run_mask_bias(const MaskBias* args) { return mask_bias(*args, nullptr); }
int run_network_forward(const NetworkForward* args) { return network_forward(*args, nullptr); }
int run_network_backward(const NetworkBackward* args) { return network_backward(*args, nullptr); }

int64_t size_mask_bias(int64_t rows, int64_t out, int dtype) {
  return mask_bias_workspace(rows, out, static_cast<DType>(dtype));
}
int64_t size_network_forward(int64_t rows, int64_t depth, int dtype) {
  return network_forward_workspace(rows, depth, static_cast<DType>(dtype));
}
int64_t size_network_backward(int64_t rows, const Layer* layers, int64_t depth, int dtype) {
  return network_backward_workspace(rows, layers, depth, static_cast<DType>(dtype));
}

int whole_network(const int64_t* sizes, int64_t depth, int dtype) {
  return runs_whole_network(sizes, depth, static_cast<DType>(dtype));
}

}  // extern "C"
