// Autograd of linear_relu and mlp: one hand-written node per call, whatever the depth.
//
// First order runs the fused kernels (mlp_backward). With create_graph=True, and under functorch,
// grad mode is on in the backward: then the same formulas run as differentiable ATen operations.
// Forward-mode AD runs plain ATen layers. A hand-written Node is 0.75 us cheaper a call than
// torch::autograd::Function and, unlike it, works with functorch.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <utility>
#include <vector>

#include "mlp_node.h"
#include "ops.h"
#include "plain_layers.h"

namespace pyfastnn {
namespace {

using torch::autograd::compute_requires_grad;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

bool any_forward_grad(const variable_list& args) {
  for (const at::Tensor& arg : args) {
    if (arg.defined() && arg._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}

// Under no_grad, unless forward-mode AD is on: not even a look at the arguments is needed.
bool nothing_to_record() {
  return !at::GradMode::is_enabled() && !torch::autograd::ForwardADLevel::try_get_by_idx(/*idx=*/0);
}

// `run` computes the outputs of all layers below autograd.
template <class Run>
at::Tensor record(const char* label, variable_list args, bool activate_last, const Run& run) {
  if (any_forward_grad(args)) return plain_layers(args, depth(args), activate_last).back();
  c10::intrusive_ptr<MlpBackward> node;
  if (compute_requires_grad(args)) {
    node = c10::make_intrusive<MlpBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(args));
    node->label = label;
    node->activate_last = activate_last;
    for (const at::Tensor& arg : args) node->saved_args.emplace_back(arg, /*is_output=*/false);
    node->unread = unread_args(std::move(args));
  }
  std::vector<at::Tensor> outputs;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    outputs = run(/*keep_hidden=*/static_cast<bool>(node));
  }
  at::Tensor output = outputs.back();
  if (node) {
    torch::autograd::set_history(output, node);
    for (size_t l = 0; l + 1 < outputs.size(); ++l)
      node->saved_hidden.emplace_back(outputs[l], false);
    if (activate_last) node->saved_output = SavedVariable(output, /*is_output=*/true);
  }
  return output;
}

at::Tensor linear_relu_autograd(const at::Tensor& input, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias) {
  if (nothing_to_record()) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return linear_relu(input, weight, bias);
  }
  return record("LinearReluBackward", {input, weight, bias.value_or(at::Tensor())},
                /*activate_last=*/true,
                [&](bool) { return std::vector<at::Tensor>{linear_relu(input, weight, bias)}; });
}

at::Tensor mlp_autograd(const at::Tensor& input, at::TensorList weights,
                        const OptionalTensors& biases, bool activate_last) {
  if (nothing_to_record()) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return mlp(input, weights, biases, activate_last);
  }
  check_mlp(input, weights, biases);  // the lists are walked in step below
  return record("MlpBackward", as_args(input, weights, biases), activate_last,
                [&](bool keep_hidden) {
                  if (keep_hidden) return mlp_forward(input, weights, biases, activate_last);
                  return std::vector<at::Tensor>{mlp(input, weights, biases, activate_last)};
                });
}

bool is_differentiated(const variable_list& args) {
  return compute_requires_grad(args) || any_forward_grad(args);
}

// The building blocks reach autograd where transforms of torch.func are nested: an outer one sees
// what the node of an inner one called. Then, and only then, they are differentiable themselves.
std::vector<at::Tensor> mlp_forward_autograd(const at::Tensor& input, at::TensorList weights,
                                             const OptionalTensors& biases, bool activate_last) {
  check_mlp(input, weights, biases);
  const variable_list args = as_args(input, weights, biases);
  if (!is_differentiated(args)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return mlp_forward(input, weights, biases, activate_last);
  }
  variable_list h = plain_layers(args, weights.size(), activate_last);
  return {h.begin() + 1, h.end()};
}

std::vector<at::Tensor> mlp_backward_autograd(const at::Tensor& grad_output,
                                              const at::Tensor& input, at::TensorList weights,
                                              at::TensorList outputs, bool activate_last,
                                              const c10::List<bool>& needs_grad) {
  check_mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad);
  variable_list args{grad_output, input};
  args.insert(args.end(), weights.begin(), weights.end());
  args.insert(args.end(), outputs.begin(), outputs.end());
  if (!is_differentiated(args)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad);
  }
  variable_list inputs{input};
  inputs.insert(inputs.end(), outputs.begin(), outputs.begin() + (weights.size() - 1));
  std::vector<bool> needs;
  for (size_t i = 0; i < needs_grad.size(); ++i) needs.push_back(needs_grad[i]);
  const variable_list all =
      plain_backward(grad_output, inputs, weights, activate_last ? outputs.back() : at::Tensor(),
                     activate_last, needs);
  variable_list wanted;
  for (size_t i = 0; i < needs.size(); ++i) {
    if (needs[i]) wanted.push_back(all[i]);
  }
  return wanted;
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, Autograd, m) {
  m.impl("linear_relu", linear_relu_autograd);
  m.impl("mlp", mlp_autograd);
  m.impl("mlp_forward", mlp_forward_autograd);
  m.impl("mlp_backward", mlp_backward_autograd);
}

}  // namespace pyfastnn
