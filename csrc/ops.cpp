// Schemas, argument checks and Meta kernels of all operators. Knows shapes, never data.
#include "ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <string>

namespace pyfastnn {
namespace {

// Where an argument stands in the user's call, so that a message can name it.
struct ArgName {
  const char* op;
  const char* name;
  int64_t index;  // position in a list argument, or -1
};

std::ostream& operator<<(std::ostream& out, const ArgName& arg) {
  out << arg.name;
  return arg.index < 0 ? out : out << '[' << arg.index << ']';
}

bool is_supported(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf;
}

void check_input(const char* op, const at::Tensor& input) {
  TORCH_CHECK(input.defined(), op, ": expected input to be a tensor, got an undefined tensor");
  TORCH_CHECK(is_supported(input.scalar_type()), op,
              ": expected input of dtype float32, float64, bfloat16 or float16, got ",
              input.scalar_type());
  TORCH_CHECK(input.layout() == at::kStrided, op, ": expected a dense (strided) input, got layout ",
              input.layout());
  TORCH_CHECK(input.dim() >= 1, op,
              ": expected input of shape [*, K] with at least one dimension, got a scalar");
}

void check_like_input(const ArgName& arg, const at::Tensor& tensor, const at::Tensor& input) {
  TORCH_CHECK(tensor.defined(), arg.op, ": expected ", arg,
              " to be a tensor, got an undefined tensor");
  TORCH_CHECK(tensor.scalar_type() == input.scalar_type(), arg.op, ": expected ", arg, " of dtype ",
              input.scalar_type(), " like input, got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == input.device(), arg.op, ": expected ", arg, " on device ",
              input.device(), " like input, got ", tensor.device());
  TORCH_CHECK(tensor.layout() == at::kStrided, arg.op, ": expected a dense (strided) ", arg,
              ", got layout ", tensor.layout());
}

void check_layer(const ArgName& weight_arg, const at::Tensor& weight, const ArgName& bias_arg,
                 const std::optional<at::Tensor>& bias, const at::Tensor& input,
                 const c10::SymInt& in_features) {
  check_like_input(weight_arg, weight, input);
  const bool fits = weight.dim() == 2 && weight.sym_size(1) == in_features;
  TORCH_CHECK(fits, weight_arg.op, ": expected ", weight_arg, " of shape [N, ", in_features,
              "] to match ", weight_arg.index > 0 ? "the layer before it (input " : "input ",
              input.sym_sizes(), weight_arg.index > 0 ? ")" : "", ", got ", weight.sym_sizes());
  if (!bias.has_value() || !bias->defined()) return;
  check_like_input(bias_arg, *bias, input);
  TORCH_CHECK(bias->dim() == 1 && bias->sym_size(0) == weight.sym_size(0), bias_arg.op,
              ": expected ", bias_arg, " of shape [", weight.sym_size(0), "] to match ", weight_arg,
              " ", weight.sym_sizes(), ", got ", bias->sym_sizes());
}

void check_layers(const char* op, const at::Tensor& input, at::TensorList weights) {
  check_input(op, input);
  TORCH_CHECK(!weights.empty(), op,
              ": expected weights to hold at least one layer, got an empty list");
}

at::Tensor empty_output(const at::Tensor& input, const at::Tensor& weight) {
  auto sizes = input.sym_sizes().vec();
  sizes.back() = weight.sym_size(0);
  return at::empty_symint(sizes, input.options());
}

at::Tensor linear_relu_meta(const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
  check_linear_relu(input, weight, bias);
  return empty_output(input, weight);
}

at::Tensor mlp_meta(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
                    bool /*activate_last*/) {
  check_mlp(input, weights, biases);
  return empty_output(input, weights.back());
}

std::vector<at::Tensor> mlp_forward_meta(const at::Tensor& input, at::TensorList weights,
                                         const OptionalTensors& biases, bool /*activate_last*/) {
  check_mlp(input, weights, biases);
  std::vector<at::Tensor> outputs;
  for (const at::Tensor& weight : weights) outputs.push_back(empty_output(input, weight));
  return outputs;
}

std::vector<at::Tensor> mlp_backward_meta(const at::Tensor& grad_output, const at::Tensor& input,
                                          at::TensorList weights, at::TensorList outputs,
                                          bool activate_last, const c10::List<bool>& needs_grad) {
  check_mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad);
  std::vector<at::Tensor> grads;
  if (needs_grad[0]) grads.push_back(at::empty_symint(input.sym_sizes(), input.options()));
  for (size_t l = 0; l < weights.size(); ++l) {
    if (needs_grad[1 + 2 * l]) {
      grads.push_back(at::empty_symint(weights[l].sym_sizes(), input.options()));
    }
    if (needs_grad[2 + 2 * l]) {
      grads.push_back(at::empty_symint({weights[l].sym_size(0)}, input.options()));
    }
  }
  return grads;
}

}  // namespace

void check_linear_relu(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias) {
  constexpr const char* op = "linear_relu";
  check_input(op, input);
  check_layer({op, "weight", -1}, weight, {op, "bias", -1}, bias, input, input.sym_size(-1));
}

void check_mlp(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases) {
  constexpr const char* op = "mlp";
  check_layers(op, input, weights);
  TORCH_CHECK(biases.size() == weights.size(), op,
              ": expected biases to hold one entry (a tensor or None) for each of the ",
              weights.size(), " weights, got ", biases.size());
  c10::SymInt in_features = input.sym_size(-1);
  for (int64_t l = 0; l < static_cast<int64_t>(weights.size()); ++l) {
    check_layer({op, "weights", l}, weights[l], {op, "biases", l}, biases.get(l), input,
                in_features);
    in_features = weights[l].sym_size(0);
  }
}

void check_mlp_backward(const at::Tensor& grad_output, const at::Tensor& input,
                        at::TensorList weights, at::TensorList outputs, bool activate_last,
                        const c10::List<bool>& needs_grad) {
  constexpr const char* op = "mlp_backward";
  check_layers(op, input, weights);
  const size_t activated = weights.size() - (activate_last ? 0 : 1);
  TORCH_CHECK(outputs.size() == activated, op,
              ": expected outputs to hold one tensor for each of the ", activated,
              " activated layers, got ", outputs.size());
  TORCH_CHECK(needs_grad.size() == 1 + 2 * weights.size(), op,
              ": expected needs_grad to hold 1 + 2 * ", weights.size(), " entries, got ",
              needs_grad.size());
  auto expect_sizes = [&](const ArgName& arg, const at::Tensor& tensor, const at::Tensor& weight) {
    check_like_input(arg, tensor, input);
    auto sizes = input.sym_sizes().vec();
    sizes.back() = weight.sym_size(0);
    TORCH_CHECK(tensor.sym_sizes().equals(sizes), op, ": expected ", arg, " of shape ",
                c10::SymIntArrayRef(sizes), ", got ", tensor.sym_sizes());
  };
  c10::SymInt in_features = input.sym_size(-1);
  for (int64_t l = 0; l < static_cast<int64_t>(weights.size()); ++l) {
    check_layer({op, "weights", l}, weights[l], {op, "biases", l}, std::nullopt, input,
                in_features);
    in_features = weights[l].sym_size(0);
    if (l < static_cast<int64_t>(outputs.size()))
      expect_sizes({op, "outputs", l}, outputs[l], weights[l]);
  }
  expect_sizes({op, "grad_output", -1}, grad_output, weights.back());
}

at::Tensor linear_relu(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pyfastnn::linear_relu", "")
                             .typed<decltype(linear_relu)>();
  return op.call(input, weight, bias);
}

at::Tensor mlp(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
               bool activate_last) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("pyfastnn::mlp", "").typed<decltype(mlp)>();
  return op.call(input, weights, biases, activate_last);
}

std::vector<at::Tensor> mlp_forward(const at::Tensor& input, at::TensorList weights,
                                    const OptionalTensors& biases, bool activate_last) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pyfastnn::mlp_forward", "")
                             .typed<decltype(mlp_forward)>();
  return op.call(input, weights, biases, activate_last);
}

std::vector<at::Tensor> mlp_backward(const at::Tensor& grad_output, const at::Tensor& input,
                                     at::TensorList weights, at::TensorList outputs,
                                     bool activate_last, const c10::List<bool>& needs_grad) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pyfastnn::mlp_backward", "")
                             .typed<decltype(mlp_backward)>();
  return op.call(grad_output, input, weights, outputs, activate_last, needs_grad);
}

TORCH_LIBRARY(pyfastnn, m) {
  m.def("linear_relu(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor");
  m.def(
      "mlp(Tensor input, Tensor[] weights, Tensor?[] biases, bool activate_last=False) -> Tensor");
  m.def(
      "mlp_forward(Tensor input, Tensor[] weights, Tensor?[] biases, bool activate_last) -> "
      "Tensor[]");
  m.def(
      "mlp_backward(Tensor grad_output, Tensor input, Tensor[] weights, Tensor[] outputs, bool "
      "activate_last, "
      "bool[] needs_grad) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(pyfastnn, Meta, m) {
  m.impl("linear_relu", linear_relu_meta);
  m.impl("mlp", mlp_meta);
  m.impl("mlp_forward", mlp_forward_meta);
  m.impl("mlp_backward", mlp_backward_meta);
}

}  // namespace pyfastnn
