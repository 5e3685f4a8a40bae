#include "plain_layers.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/library.h>

namespace pyfastnn {
namespace {

// [*, F] -> [M, F]
at::Tensor as_matrix(const at::Tensor& tensor) {
  if (tensor.dim() == 2) return tensor;
  return tensor.dim() == 1 ? tensor.unsqueeze(0) : tensor.flatten(0, -2);
}

at::Tensor plain_linear_relu(const at::Tensor& input, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias) {
  return at::relu(at::linear(input, weight, bias));
}

at::Tensor plain_mlp(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
                     bool activate_last) {
  const LayerArgs args = as_args(input, weights, biases);
  return plain_layers(args, depth(args), activate_last).back();
}

}  // namespace

LayerArgs as_args(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases) {
  LayerArgs args{input};
  for (size_t l = 0; l < weights.size(); ++l) {
    args.push_back(weights[l]);
    args.push_back(biases.get(l).value_or(at::Tensor()));
  }
  return args;
}

size_t depth(const LayerArgs& args) { return (args.size() - 1) / 2; }

std::vector<at::Tensor> weights_of(const LayerArgs& args) {
  std::vector<at::Tensor> weights;
  for (size_t l = 0; l < depth(args); ++l) weights.push_back(args[1 + 2 * l]);
  return weights;
}

std::vector<at::Tensor> plain_layers(const LayerArgs& args, size_t layers, bool activate_last) {
  std::vector<at::Tensor> h{args[0]};
  for (size_t l = 0; l < layers; ++l) {
    const at::Tensor z = at::linear(h[l], args[1 + 2 * l], args[2 + 2 * l]);
    h.push_back(l + 1 < depth(args) || activate_last ? at::relu(z) : z);
  }
  return h;
}

std::vector<at::Tensor> plain_backward(const at::Tensor& grad_output,
                                       const std::vector<at::Tensor>& inputs,
                                       at::TensorList weights, const at::Tensor& output,
                                       bool activate_last, const std::vector<bool>& needs) {
  std::vector<at::Tensor> grads(needs.size());
  at::Tensor dz = activate_last ? at::threshold_backward(grad_output, output, 0) : grad_output;
  for (size_t l = weights.size(); l-- > 0;) {
    if (needs[1 + 2 * l]) grads[1 + 2 * l] = at::matmul(as_matrix(dz).t(), as_matrix(inputs[l]));
    if (needs[2 + 2 * l]) grads[2 + 2 * l] = as_matrix(dz).sum(0);
    if (l == 0) {
      if (needs[0]) grads[0] = at::matmul(dz, weights[l]);
    } else {
      dz = at::threshold_backward(at::matmul(dz, weights[l]), inputs[l], 0);
    }
  }
  return grads;
}

// Nested tensors have no single shape that the kernels could take.
TORCH_LIBRARY_IMPL(pyfastnn, AutogradNestedTensor, m) {
  m.impl("linear_relu", plain_linear_relu);
  m.impl("mlp", plain_mlp);
}

// torch.jit.trace cannot record optional tensors in a list.
TORCH_LIBRARY_IMPL(pyfastnn, Tracer, m) { m.impl("mlp", plain_mlp); }

}  // namespace pyfastnn
