// The formulas of linear_relu and mlp as ATen calls, differentiable in every mode and to any order:
// what runs where the fused kernels do not serve, for nested tensors and in traces.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "ops.h"

namespace pyfastnn {

// [input, weight_1, bias_1, weight_2, bias_2, ...]; a missing bias is an undefined tensor.
using LayerArgs = std::vector<at::Tensor>;

LayerArgs as_args(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases);
size_t depth(const LayerArgs& args);
std::vector<at::Tensor> weights_of(const LayerArgs& args);

// The first `layers` layers: [input, output_1, ...].
std::vector<at::Tensor> plain_layers(const LayerArgs& args, size_t layers, bool activate_last);

// mlp_backward. `inputs` are those of every layer; `output` is the last one's, only used as a mask.
// Returns the gradients of LayerArgs, undefined where `needs` is false.
std::vector<at::Tensor> plain_backward(const at::Tensor& grad_output,
                                       const std::vector<at::Tensor>& inputs,
                                       at::TensorList weights, const at::Tensor& output,
                                       bool activate_last, const std::vector<bool>& needs);

}  // namespace pyfastnn
