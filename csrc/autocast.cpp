// Autocast on CPU: tensors are cast to the active autocast dtype as for torch.nn.functional.linear,
// once a call.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops.h"

namespace pyfastnn {
namespace {

at::Tensor cast(const at::Tensor& tensor) {
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), tensor, at::kCPU);
}

std::optional<at::Tensor> cast(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? std::optional<at::Tensor>(cast(*tensor)) : std::nullopt;
}

at::Tensor linear_relu_autocast(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return linear_relu(cast(input), cast(weight), cast(bias));
}

at::Tensor mlp_autocast(const at::Tensor& input, at::TensorList weights,
                        const OptionalTensors& biases, bool activate_last) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  std::vector<at::Tensor> cast_weights;
  for (const at::Tensor& weight : weights) cast_weights.push_back(cast(weight));
  OptionalTensors cast_biases;
  for (size_t l = 0; l < biases.size(); ++l) cast_biases.push_back(cast(biases.get(l)));
  return mlp(cast(input), cast_weights, cast_biases, activate_last);
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, AutocastCPU, m) {
  m.impl("linear_relu", linear_relu_autocast);
  m.impl("mlp", mlp_autocast);
}

}  // namespace pyfastnn
