// Autograd of linear_relu and mlp: one hand-written node per call, whatever the depth.
//
// First order runs the fused kernels (mlp_backward). With create_graph=True, and under functorch,
// grad mode is on in the backward: then the same formulas run as differentiable ATen operations.
// Forward-mode AD runs plain ATen layers. A hand-written Node is 0.75 us cheaper a call than
// torch::autograd::Function and, unlike it, works with functorch.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <string>
#include <utility>

#include "ops.h"

namespace pyfastnn {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// [*, F] -> [M, F]
at::Tensor as_matrix(const at::Tensor& tensor) {
  if (tensor.dim() == 2) return tensor;
  return tensor.dim() == 1 ? tensor.unsqueeze(0) : tensor.flatten(0, -2);
}

// args = [input, weight_1, bias_1, weight_2, bias_2, ...]; a missing bias is an undefined tensor.
size_t depth(const variable_list& args) { return (args.size() - 1) / 2; }

variable_list weights_of(const variable_list& args) {
  variable_list weights;
  for (size_t l = 0; l < depth(args); ++l) weights.push_back(args[1 + 2 * l]);
  return weights;
}

variable_list as_args(const at::Tensor& input, at::TensorList weights,
                      const OptionalTensors& biases) {
  variable_list args{input};
  for (size_t l = 0; l < weights.size(); ++l) {
    args.push_back(weights[l]);
    args.push_back(biases.get(l).value_or(at::Tensor()));
  }
  return args;
}

// The first `layers` layers as ATen calls, differentiable in every mode and to any order: [input,
// output_1, ...].
variable_list plain_layers(const variable_list& args, size_t layers, bool activate_last) {
  variable_list h{args[0]};
  for (size_t l = 0; l < layers; ++l) {
    const at::Tensor z = at::linear(h[l], args[1 + 2 * l], args[2 + 2 * l]);
    h.push_back(l + 1 < depth(args) || activate_last ? at::relu(z) : z);
  }
  return h;
}

// The formulas of mlp_backward as differentiable ATen calls. `inputs` are those of every layer;
// `output` is the last one's, only used as a mask. Returns [input, weight_1, bias_1, ...],
// undefined where `needs` is false.
variable_list plain_backward(const at::Tensor& grad_output, const variable_list& inputs,
                             at::TensorList weights, const at::Tensor& output, bool activate_last,
                             const std::vector<bool>& needs) {
  variable_list grads(needs.size());
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

struct MlpBackward : torch::autograd::Node {
  std::string label;
  bool activate_last = false;
  std::vector<SavedVariable> saved_args;    // input, weight_1, bias_1, ...
  std::vector<SavedVariable> saved_hidden;  // outputs of all layers but the last
  SavedVariable saved_output;               // only if activate_last

  std::string name() const override { return label; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto* list : {&saved_args, &saved_hidden}) {
      for (SavedVariable& variable : *list) variable.reset_data();
    }
    saved_output.reset_data();
  }

  variable_list apply(variable_list&& incoming) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const at::Tensor& grad_output = incoming[0];
    if (!grad_output.defined()) return variable_list(saved_args.size());
    // Biases are unpacked only where they are used: as in torch, they may be changed in place
    // before the backward.
    const bool differentiable = at::GradMode::is_enabled();
    variable_list args(saved_args.size());
    std::vector<bool> needs;
    for (size_t i = 0; i < args.size(); ++i) {
      const bool is_bias = i > 0 && i % 2 == 0;
      if (differentiable || !is_bias) args[i] = saved_args[i].unpack();
      needs.push_back(task_should_compute_output(i));
    }
    at::Tensor output;
    if (activate_last) output = saved_output.unpack(getptr());
    if (differentiable) {
      // The hidden layers are computed again, because their own derivatives count here.
      const variable_list inputs = plain_layers(args, depth(args) - 1, activate_last);
      return plain_backward(grad_output, inputs, weights_of(args), output, activate_last, needs);
    }
    return fused_backward(grad_output, args, output, needs);
  }

 private:
  variable_list fused_backward(const at::Tensor& grad_output, const variable_list& args,
                               const at::Tensor& output, const std::vector<bool>& needs) {
    variable_list outputs;
    for (const SavedVariable& hidden : saved_hidden) outputs.push_back(hidden.unpack());
    if (activate_last) outputs.push_back(output);
    c10::List<bool> needs_grad;
    for (bool need : needs) needs_grad.push_back(need);
    auto computed =
        mlp_backward(grad_output, args[0], weights_of(args), outputs, activate_last, needs_grad);
    variable_list grads(args.size());
    size_t next = 0;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (needs[i]) grads[i] = std::move(computed[next++]);
    }
    return grads;
  }
};

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
at::Tensor record(const char* label, const variable_list& args, bool activate_last,
                  const Run& run) {
  if (any_forward_grad(args)) return plain_layers(args, depth(args), activate_last).back();
  c10::intrusive_ptr<MlpBackward> node;
  if (torch::autograd::compute_requires_grad(args)) {
    node = c10::make_intrusive<MlpBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(args));
    node->label = label;
    node->activate_last = activate_last;
    for (const at::Tensor& arg : args) node->saved_args.emplace_back(arg, /*is_output=*/false);
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
  const variable_list args = as_args(input, weights, biases);
  return record("MlpBackward", args, activate_last, [&](bool keep_hidden) {
    if (keep_hidden) return mlp_forward(input, weights, biases, activate_last);
    return std::vector<at::Tensor>{mlp(input, weights, biases, activate_last)};
  });
}

bool is_differentiated(const variable_list& args) {
  return torch::autograd::compute_requires_grad(args) || any_forward_grad(args);
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
