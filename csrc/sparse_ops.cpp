// Schemas, argument checks and Meta kernels of the operators on sparse input.
#include "sparse_ops.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>

#include "tensor_data.h"

namespace pyfastnn {
namespace {

constexpr const char* kName = "sparse_linear: ";

bool is_index(at::ScalarType type) { return type == at::kInt || type == at::kLong; }

void check_vector(const char* who, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.dim() == 1, who, "expected ", name,
              " to be a dense tensor of one dimension, got layout ", tensor.layout(), " of shape ",
              tensor.sym_sizes());
}

void check_like_values(const char* name, const at::Tensor& tensor, const at::Tensor& values) {
  TORCH_CHECK(tensor.scalar_type() == values.scalar_type(), kName, "expected ", name, " of dtype ",
              values.scalar_type(), " like the values of input, got ", tensor.scalar_type());
  TORCH_CHECK(tensor.device() == values.device(), kName, "expected ", name, " on device ",
              values.device(), " like input, got ", tensor.device());
  TORCH_CHECK(tensor.layout() == at::kStrided, kName, "expected a dense (strided) ", name,
              ", got layout ", tensor.layout());
}

void check_output(const char* name, const SparseArgs& args, const at::Tensor& tensor,
                  const at::Tensor& weight) {
  check_like_values(name, tensor, args.values);
  TORCH_CHECK(tensor.dim() == 2 && tensor.sym_size(0) == args.crow.sym_size(0) - 1 &&
                  tensor.sym_size(1) == weight.sym_size(0),
              kName, "expected ", name, " of shape [", args.crow.sym_size(0) - 1, ", ",
              weight.sym_size(0), "], got ", tensor.sym_sizes());
}

void check_weight(const at::Tensor& weight, const at::Tensor& values) {
  check_like_values("weight", weight, values);
  TORCH_CHECK(weight.dim() == 2, kName, "expected weight of shape [N, K], got ",
              weight.sym_sizes());
}

template <class I>
void check_indices(const SparseArgs& args, int64_t columns) {
  const at::Tensor crow = args.crow.contiguous(), col = args.col.contiguous();
  const I* begin = crow.const_data_ptr<I>();
  const int64_t rows = crow.numel() - 1, entries = col.numel();
  TORCH_CHECK(begin[0] == 0 && begin[rows] == entries, args.who,
              "expected crow_indices of input from 0 to its ", entries, " values, got ", begin[0],
              " to ", begin[rows]);
  for (int64_t i = 0; i < rows; ++i) {
    TORCH_CHECK(begin[i] <= begin[i + 1], args.who,
                "expected crow_indices of input to ascend, got ", begin[i], " before ",
                begin[i + 1], " at index ", i);
  }
  const I* column = col.const_data_ptr<I>();
  const I limit = static_cast<I>(columns);
  bool inside = true;
  for (int64_t e = 0; e < entries; ++e) inside = inside & (column[e] >= 0) & (column[e] < limit);
  if (inside) return;
  int64_t at = 0;
  while (column[at] >= 0 && column[at] < limit) ++at;
  TORCH_CHECK(false, args.who, "expected col_indices of input from 0 to ", columns - 1, ", got ",
              column[at], " at index ", at);
}

at::Tensor sparse_linear_meta(const at::Tensor& crow, const at::Tensor& col,
                              const at::Tensor& values, c10::SymInt columns,
                              const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                              bool /*relu*/) {
  check_sparse_linear({kName, crow, col, values}, columns, weight, bias);
  return at::empty_symint({crow.sym_size(0) - 1, weight.sym_size(0)}, values.options());
}

std::vector<at::Tensor> sparse_linear_backward_meta(const at::Tensor& grad_output,
                                                    const at::Tensor& crow, const at::Tensor& col,
                                                    const at::Tensor& values,
                                                    const at::Tensor& weight,
                                                    const std::optional<at::Tensor>& output,
                                                    const c10::List<bool>& needs_grad) {
  check_sparse_linear_backward({kName, crow, col, values}, grad_output, weight, output, needs_grad);
  std::vector<at::Tensor> grads;
  const c10::SymInt n = weight.sym_size(0), k = weight.sym_size(1);
  if (needs_grad[0]) grads.push_back(at::empty_symint(values.sym_sizes(), values.options()));
  if (needs_grad[1]) {
    grads.push_back(lies_by_columns(weight) ? at::empty_symint({k, n}, values.options()).t()
                                            : at::empty_symint({n, k}, values.options()));
  }
  if (needs_grad[2]) grads.push_back(at::empty_symint({n}, values.options()));
  return grads;
}

}  // namespace

void check_sparse_input(const SparseArgs& args) {
  check_vector(args.who, "crow_indices of input", args.crow);
  check_vector(args.who, "col_indices of input", args.col);
  check_vector(args.who, "values of input", args.values);
  TORCH_CHECK(
      is_index(args.crow.scalar_type()) && args.crow.scalar_type() == args.col.scalar_type(),
      args.who, "expected indices of input of dtype int32 or int64, both the same, got ",
      args.crow.scalar_type(), " and ", args.col.scalar_type());
  const at::ScalarType type = args.values.scalar_type();
  TORCH_CHECK(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf,
      args.who, "expected input of dtype float32, float64, bfloat16 or float16, got ", type);
  TORCH_CHECK(
      args.crow.device() == args.values.device() && args.col.device() == args.values.device(),
      args.who, "expected indices and values of input on one device, got ", args.crow.device(),
      ", ", args.col.device(), " and ", args.values.device());
  TORCH_CHECK(args.crow.sym_size(0) >= 1, args.who,
              "expected crow_indices of input to hold one entry more than there are rows, got ",
              args.crow.sym_sizes());
  TORCH_CHECK(args.col.sym_size(0) == args.values.sym_size(0), args.who,
              "expected as many col_indices of input as values, got ", args.col.sym_sizes(),
              " and ", args.values.sym_sizes());
}

void check_sparse_indices(const SparseArgs& args, int64_t columns) {
  TORCH_CHECK(columns <= std::numeric_limits<int32_t>::max(), args.who,
              "expected input to have fewer than 2^31 columns, got ", columns);
  if (args.crow.scalar_type() == at::kInt) {
    check_indices<int32_t>(args, columns);
  } else {
    check_indices<int64_t>(args, columns);
  }
}

void check_sparse_linear(const SparseArgs& args, const c10::SymInt& columns,
                         const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  check_sparse_input(args);
  check_weight(weight, args.values);
  TORCH_CHECK(weight.sym_size(1) == columns, kName, "expected weight of shape [N, ", columns,
              "] to match input [", args.crow.sym_size(0) - 1, ", ", columns, "], got ",
              weight.sym_sizes());
  if (!bias.has_value()) return;
  check_like_values("bias", *bias, args.values);
  TORCH_CHECK(bias->dim() == 1 && bias->sym_size(0) == weight.sym_size(0), kName,
              "expected bias of shape [", weight.sym_size(0), "] to match weight ",
              weight.sym_sizes(), ", got ", bias->sym_sizes());
}

void check_sparse_linear_backward(const SparseArgs& args, const at::Tensor& grad_output,
                                  const at::Tensor& weight, const std::optional<at::Tensor>& output,
                                  const c10::List<bool>& needs_grad) {
  check_sparse_input(args);
  check_weight(weight, args.values);
  check_output("grad_output", args, grad_output, weight);
  if (output.has_value()) check_output("output", args, *output, weight);
  TORCH_CHECK(needs_grad.size() == 3, kName,
              "expected needs_grad to hold 3 entries (values, weight, bias), got ",
              needs_grad.size());
}

TORCH_LIBRARY_FRAGMENT(pyfastnn, m) {
  m.def(
      "sparse_linear(Tensor crow, Tensor col, Tensor values, SymInt columns, Tensor weight, "
      "Tensor? bias, bool relu) -> Tensor");
  m.def(
      "sparse_linear_backward(Tensor grad_output, Tensor crow, Tensor col, Tensor values, "
      "Tensor weight, Tensor? output, bool[] needs_grad) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(pyfastnn, Meta, m) {
  m.impl("sparse_linear", sparse_linear_meta);
  m.impl("sparse_linear_backward", sparse_linear_backward_meta);
}

}  // namespace pyfastnn
