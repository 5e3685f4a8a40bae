// Declarations shared by the operator files: typed calls through the dispatcher and the argument
// checks. Letters: M rows of the input (all leading dimensions multiplied), K in_features, N
// out_features, L layers.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace pyfastnn {

using OptionalTensors = c10::List<std::optional<at::Tensor>>;

// Y = relu(X W^T + b).  input [*, K], weight [N, K], bias [N] or none -> [*, N].
at::Tensor linear_relu(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias);

// The output of the last layer alone; the hidden ones are not kept.
at::Tensor mlp(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
               bool activate_last);

// Outputs of every layer: h_0 = input, h_l = relu(h_{l-1} W_l^T + b_l); the last layer is activated
// only if activate_last. Returns L tensors [*, N_l]. Has no derivative of its own: linear_relu and
// mlp do.
std::vector<at::Tensor> mlp_forward(const at::Tensor& input, at::TensorList weights,
                                    const OptionalTensors& biases, bool activate_last);

// Gradients of mlp. `outputs` holds the output of every layer that has a ReLU: L of them if
// activate_last, else L-1. `needs_grad` has 1 + 2L entries, [input, weight_1, bias_1, weight_2,
// ...]; exactly the requested gradients are computed and returned, in that order. The mask is not
// (y <= 0), so that NaN travels as in torch.relu.
std::vector<at::Tensor> mlp_backward(const at::Tensor& grad_output, const at::Tensor& input,
                                     at::TensorList weights, at::TensorList outputs,
                                     bool activate_last, const c10::List<bool>& needs_grad);

// Raise, before anything is touched, unless shapes, dtypes and devices fit together.
void check_linear_relu(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias);
void check_mlp(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases);
void check_mlp_backward(const at::Tensor& grad_output, const at::Tensor& input,
                        at::TensorList weights, at::TensorList outputs, bool activate_last,
                        const c10::List<bool>& needs_grad);

}  // namespace pyfastnn
