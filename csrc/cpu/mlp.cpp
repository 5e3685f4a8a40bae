// CPU kernels of the operators. Tensors stop here: the engine sees pointers, sizes and leading
// dimensions.
#include <c10/util/SmallVector.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

#include "../ops.h"
#include "tensors.h"

namespace pyfastnn {
namespace {

// The tensors of a call with plain rows or columns; keeps copies alive.
struct Parameters {
  c10::SmallVector<at::Tensor, 4> weights, biases;  // a missing bias is undefined

  void add(const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
    weights.push_back(with_plain_lines(weight));
    biases.push_back(bias.has_value() && bias->defined() ? bias->contiguous() : at::Tensor());
  }

  template <class S>
  std::vector<engine::Layer<S>> layers(bool activate_last) const {
    std::vector<engine::Layer<S>> result;
    for (size_t l = 0; l < weights.size(); ++l) {
      const S* bias = biases[l].defined() ? const_data<S>(biases[l]) : nullptr;
      result.push_back({weight_operand<S>(weights[l]), bias, weights[l].size(1), weights[l].size(0),
                        l + 1 < weights.size() || activate_last});
    }
    return result;
  }
};

// Outputs of every layer if keep_hidden, else of the last.
std::vector<at::Tensor> run_forward(const at::Tensor& input, const Parameters& parameters,
                                    bool activate_last, bool keep_hidden) {
  const at::Tensor x = with_plain_rows(input);
  std::vector<at::Tensor> outputs;
  dispatch(input.scalar_type(), [&](auto tag) {
    using S = decltype(tag);
    const auto layers = parameters.layers<S>(activate_last);
    std::vector<engine::Matrix<S>> wanted(layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      if (!keep_hidden && l + 1 < layers.size()) continue;
      outputs.push_back(empty_rows_like(input, layers[l].out));
      wanted[l] = {data<S>(outputs.back()), layers[l].out};
    }
    engine::forward<S>(layers, row_count(input), matrix<S>(x), wanted);
  });
  return outputs;
}

at::Tensor linear_relu_cpu(const at::Tensor& input, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias) {
  check_linear_relu(input, weight, bias);
  Parameters parameters;
  parameters.add(weight, bias);
  return run_forward(input, parameters, /*activate_last=*/true, /*keep_hidden=*/false)[0];
}

Parameters parameters_of(at::TensorList weights, const OptionalTensors& biases) {
  Parameters parameters;
  for (size_t l = 0; l < weights.size(); ++l) parameters.add(weights[l], biases.get(l));
  return parameters;
}

at::Tensor mlp_cpu(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
                   bool activate_last) {
  check_mlp(input, weights, biases);
  return run_forward(input, parameters_of(weights, biases), activate_last,
                     /*keep_hidden=*/false)[0];
}

std::vector<at::Tensor> mlp_forward_cpu(const at::Tensor& input, at::TensorList weights,
                                        const OptionalTensors& biases, bool activate_last) {
  check_mlp(input, weights, biases);
  return run_forward(input, parameters_of(weights, biases), activate_last, /*keep_hidden=*/true);
}

// The gradients that are wanted, in order. The largest are allocated first: a small one would take
// a piece of the memory that the last call's large one left, and the heap would grow and shrink,
// with page faults, at every call.
std::vector<at::Tensor> empty_gradients(const at::Tensor& input, at::TensorList weights,
                                        const c10::List<bool>& needs_grad) {
  std::vector<at::IntArrayRef> sizes;
  if (needs_grad[0]) sizes.push_back(input.sizes());
  for (size_t l = 0; l < weights.size(); ++l) {
    if (needs_grad[1 + 2 * l]) sizes.push_back(weights[l].sizes());
    if (needs_grad[2 + 2 * l]) sizes.push_back(weights[l].sizes().slice(0, 1));
  }
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return c10::multiply_integers(sizes[i]) > c10::multiply_integers(sizes[j]);
  });
  std::vector<at::Tensor> grads(sizes.size());
  for (size_t i : order) grads[i] = empty_like_input(sizes[i], input);
  return grads;
}

std::vector<at::Tensor> mlp_backward_cpu(const at::Tensor& grad_output, const at::Tensor& input,
                                         at::TensorList weights, at::TensorList outputs,
                                         bool activate_last, const c10::List<bool>& needs_grad) {
  check_mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad);
  Parameters parameters;
  for (const at::Tensor& weight : weights) parameters.add(weight, std::nullopt);
  const at::Tensor x = with_plain_rows(input);
  const at::Tensor dy = with_plain_rows(grad_output);
  std::vector<at::Tensor> kept;
  for (const at::Tensor& output : outputs) kept.push_back(with_plain_rows(output));
  std::vector<at::Tensor> grads = empty_gradients(input, weights, needs_grad);
  dispatch(input.scalar_type(), [&](auto tag) {
    using S = decltype(tag);
    auto next = grads.begin();
    auto wanted = [&](size_t i) -> S* { return needs_grad[i] ? data<S>(*next++) : nullptr; };
    engine::Gradients<S> gradients;
    gradients.input = wanted(0);
    for (size_t l = 0; l < weights.size(); ++l) {
      gradients.weights.push_back(wanted(1 + 2 * l));
      gradients.biases.push_back(wanted(2 + 2 * l));
    }
    std::vector<engine::Matrix<const S>> output_rows;
    for (const at::Tensor& output : kept) output_rows.push_back(matrix<S>(output));
    engine::backward<S>(parameters.layers<S>(activate_last), row_count(input), matrix<S>(x),
                        output_rows, matrix<S>(dy), gradients);
  });
  return grads;
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, CPU, m) {
  m.impl("linear_relu", linear_relu_cpu);
  m.impl("mlp", mlp_cpu);
  m.impl("mlp_forward", mlp_forward_cpu);
  m.impl("mlp_backward", mlp_backward_cpu);
}

}  // namespace pyfastnn
