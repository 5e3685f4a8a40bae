// The operators on sparse input at the Autograd key. Their fused derivative is recorded in Python
// (pyfastnn/_sparse_function.py). Here they arrive where that derivative is differentiated again,
// and in forward mode: then, and only then, they run as differentiable ATen operations.
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include "sparse_ops.h"

namespace pyfastnn {
namespace {

using torch::autograd::variable_list;

constexpr const char* kName = "sparse_linear: ";

bool is_differentiated(const variable_list& args) {
  if (torch::autograd::compute_requires_grad(args)) return true;
  for (const at::Tensor& arg : args) {
    if (arg.defined() && arg._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}

// The row of every entry.
at::Tensor rows_of_entries(const at::Tensor& crow, const at::Tensor& col) {
  const at::Tensor rows = at::arange(crow.size(0) - 1, crow.options().dtype(at::kLong));
  return rows.repeat_interleave(crow.diff().to(at::kLong), 0, col.size(0));
}

at::Tensor sparse_linear_autograd(const at::Tensor& crow, const at::Tensor& col,
                                  const at::Tensor& values, c10::SymInt columns,
                                  const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                  bool relu) {
  check_sparse_linear({kName, crow, col, values}, columns, weight, bias);
  if (!is_differentiated({values, weight, bias.value_or(at::Tensor())})) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("pyfastnn::sparse_linear", "")
                               .typed<decltype(sparse_linear_autograd)>();
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(crow, col, values, columns, weight, bias, relu);
  }
  const at::Tensor products = values.unsqueeze(1) * weight.t().index_select(0, col);
  at::Tensor z = at::zeros({crow.size(0) - 1, weight.size(0)}, values.options());
  z = z.index_add(0, rows_of_entries(crow, col), products);
  if (bias.has_value()) z = z + *bias;
  return relu ? at::relu(z) : z;
}

std::vector<at::Tensor> sparse_linear_backward_autograd(
    const at::Tensor& grad_output, const at::Tensor& crow, const at::Tensor& col,
    const at::Tensor& values, const at::Tensor& weight, const std::optional<at::Tensor>& output,
    const c10::List<bool>& needs_grad) {
  check_sparse_linear_backward({kName, crow, col, values}, grad_output, weight, output, needs_grad);
  if (!is_differentiated({grad_output, values, weight})) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("pyfastnn::sparse_linear_backward", "")
                               .typed<decltype(sparse_linear_backward_autograd)>();
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(grad_output, crow, col, values, weight, output, needs_grad);
  }
  const at::Tensor dz = output.has_value() ? grad_output.masked_fill(*output <= 0, 0) : grad_output;
  const at::Tensor of_entries = dz.index_select(0, rows_of_entries(crow, col));
  std::vector<at::Tensor> grads;
  if (needs_grad[0]) grads.push_back((of_entries * weight.t().index_select(0, col)).sum(1));
  if (needs_grad[1]) {
    const at::Tensor zero = at::zeros({weight.size(1), weight.size(0)}, weight.options());
    grads.push_back(zero.index_add(0, col, values.unsqueeze(1) * of_entries).t());
  }
  if (needs_grad[2]) grads.push_back(dz.sum(0));
  return grads;
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, Autograd, m) {
  m.impl("sparse_linear", sparse_linear_autograd);
  m.impl("sparse_linear_backward", sparse_linear_backward_autograd);
}

}  // namespace pyfastnn
