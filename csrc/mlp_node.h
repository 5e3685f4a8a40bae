// The autograd node of linear_relu and mlp.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <string>
#include <vector>

namespace pyfastnn {

struct MlpBackward : torch::autograd::Node {
  std::string label;
  bool activate_last = false;
  std::vector<torch::autograd::SavedVariable> saved_args;    // input, weight_1, bias_1, ...
  std::vector<at::Tensor> unread;                            // see unread_args
  std::vector<torch::autograd::SavedVariable> saved_hidden;  // outputs of all layers but the last
  torch::autograd::SavedVariable saved_output;               // only if activate_last

  std::string name() const override { return label; }
  void release_variables() override;

  torch::autograd::variable_list apply(torch::autograd::variable_list&& incoming) override;

  // Compiled autograd: what its graph is specialized on, and the tensors that it takes.
  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override;
  // Compiled autograd: puts a call of the backward, with proxies for all tensors, into the graph.
  torch::autograd::variable_list apply_with_saved(
      const torch::autograd::variable_list& incoming,
      torch::dynamo::autograd::SwapSavedVariables& saved) override;

 private:
  std::vector<bool> needs() const;
  std::vector<at::Tensor> unpack_all() const;
  std::vector<at::Tensor> unpack_read() const;
  std::vector<at::Tensor> unpack_outputs(bool differentiable);
};

// Of [input, weight_1, bias_1, ...] the input and the weights that no first derivative reads, in
// place of all others an undefined tensor. The input counts in the gradient of weight_1, a weight
// in the gradients of what comes before it.
std::vector<at::Tensor> unread_args(std::vector<at::Tensor> args);

}  // namespace pyfastnn
