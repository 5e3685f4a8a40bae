// Autocast on every device that has kernels: tensors are cast to the active autocast dtype as for
// torch.nn.functional.linear, once a call.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops.h"

namespace pyfastnn {
namespace {

template <c10::DeviceType device>
struct Autocast {
  static at::Tensor cast(const at::Tensor& tensor) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), tensor, device);
  }

  static std::optional<at::Tensor> cast(const std::optional<at::Tensor>& tensor) {
    return tensor.has_value() ? std::optional<at::Tensor>(cast(*tensor)) : std::nullopt;
  }

  static at::Tensor linear_relu(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias) {
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    return pyfastnn::linear_relu(cast(input), cast(weight), cast(bias));
  }

  static at::Tensor mlp(const at::Tensor& input, at::TensorList weights,
                        const OptionalTensors& biases, bool activate_last) {
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    std::vector<at::Tensor> cast_weights;
    for (const at::Tensor& weight : weights) cast_weights.push_back(cast(weight));
    OptionalTensors cast_biases;
    for (size_t l = 0; l < biases.size(); ++l) cast_biases.push_back(cast(biases.get(l)));
    return pyfastnn::mlp(cast(input), cast_weights, cast_biases, activate_last);
  }

  static void add_to(torch::Library& library) {
    library.impl("linear_relu", linear_relu);
    library.impl("mlp", mlp);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, AutocastCPU, m) { Autocast<at::kCPU>::add_to(m); }
TORCH_LIBRARY_IMPL(pyfastnn, AutocastCUDA, m) { Autocast<at::kCUDA>::add_to(m); }

}  // namespace pyfastnn
