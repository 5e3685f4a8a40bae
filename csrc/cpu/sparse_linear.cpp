// The operators on sparse input on the CPU: tensors to pointers.
#include <torch/library.h>

#include "../sparse_ops.h"
#include "engine/sparse.h"
#include "sparse_input.h"
#include "tensors.h"

namespace pyfastnn {
namespace {

constexpr const char* kName = "sparse_linear: ";

template <class S>
engine::SparseLayer<S> layer_of(const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  return {weight_operand<S>(weight), bias.defined() ? const_data<S>(bias) : nullptr, weight.size(1),
          weight.size(0), relu};
}

at::Tensor sparse_linear_cpu(const at::Tensor& crow, const at::Tensor& col,
                             const at::Tensor& values, int64_t columns, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias, bool relu) {
  const SparseArgs args{kName, crow, col, values};
  check_sparse_linear(args, columns, weight, bias);
  check_sparse_indices(args, columns);
  const SparseTensors x(crow, col, values);
  const at::Tensor w = with_plain_lines(weight);
  const at::Tensor b = bias.has_value() ? bias->contiguous() : at::Tensor();
  const int64_t rows = crow.size(0) - 1, out = w.size(0);
  const at::Tensor output = empty_like_input({rows, out}, values);
  dispatch(values.scalar_type(), [&](auto tag) {
    using S = decltype(tag);
    engine::sparse_forward<S>(layer_of<S>(w, b, relu), x.input<S>(columns), rows,
                              {data<S>(output), out});
  });
  return output;
}

std::vector<at::Tensor> sparse_linear_backward_cpu(const at::Tensor& grad_output,
                                                   const at::Tensor& crow, const at::Tensor& col,
                                                   const at::Tensor& values,
                                                   const at::Tensor& weight,
                                                   const std::optional<at::Tensor>& output,
                                                   const c10::List<bool>& needs_grad) {
  const SparseArgs args{kName, crow, col, values};
  check_sparse_linear_backward(args, grad_output, weight, output, needs_grad);
  const int64_t in = weight.size(1), out = weight.size(0), rows = crow.size(0) - 1;
  check_sparse_indices(args, in);
  const SparseTensors x(crow, col, values);
  const at::Tensor w = with_plain_lines(weight), dy = with_plain_rows(grad_output);
  const at::Tensor y = output.has_value() ? with_plain_rows(*output) : at::Tensor();
  std::vector<at::Tensor> grads;
  const auto add = [&](at::IntArrayRef sizes) { grads.push_back(empty_like_input(sizes, values)); };
  if (needs_grad[0]) add(values.sizes());
  if (needs_grad[1]) lies_by_columns(w) ? add({in, out}) : add({out, in});
  if (needs_grad[2]) add({out});
  dispatch(values.scalar_type(), [&](auto tag) {
    using S = decltype(tag);
    auto next = grads.begin();
    const auto wanted = [&](size_t i) -> S* { return needs_grad[i] ? data<S>(*next++) : nullptr; };
    engine::SparseGradients<S> gradients;
    gradients.values = wanted(0);
    gradients.weight = wanted(1);
    gradients.bias = wanted(2);
    engine::sparse_backward<S>(layer_of<S>(w, at::Tensor(), y.defined()), x.input<S>(in), rows,
                               y.defined() ? matrix<S>(y) : engine::Matrix<const S>{},
                               matrix<S>(dy), gradients);
  });
  if (needs_grad[1] && lies_by_columns(w)) grads[needs_grad[0]] = grads[needs_grad[0]].t();
  return grads;
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, CPU, m) {
  m.impl("sparse_linear", sparse_linear_cpu);
  m.impl("sparse_linear_backward", sparse_linear_backward_cpu);
}

}  // namespace pyfastnn
