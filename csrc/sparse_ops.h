// The linear layer whose input is a sparse matrix by rows (CSR): crow [M + 1], col [E] and values
// [E] are what torch calls crow_indices, col_indices and values.
#pragma once

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace pyfastnn {

// Where a message comes from: "sparse_linear: " or "TrainStep: ".
struct SparseArgs {
  const char* who;
  const at::Tensor &crow, &col, &values;
};

// Raise, before anything is touched, unless shapes, dtypes and devices fit together.
void check_sparse_input(const SparseArgs& args);
// Raise unless every row begins where the one before it ends, and all columns are in [0, columns).
void check_sparse_indices(const SparseArgs& args, int64_t columns);

void check_sparse_linear(const SparseArgs& args, const c10::SymInt& columns,
                         const at::Tensor& weight, const std::optional<at::Tensor>& bias);
void check_sparse_linear_backward(const SparseArgs& args, const at::Tensor& grad_output,
                                  const at::Tensor& weight, const std::optional<at::Tensor>& output,
                                  const c10::List<bool>& needs_grad);

}  // namespace pyfastnn
