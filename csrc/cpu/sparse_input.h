// The three tensors of a sparse matrix by rows as the engine sees them.
#pragma once

#include "engine/sparse_rows.h"
#include "tensors.h"

namespace pyfastnn {

// Keeps the tensors alive, and copies of those that do not lie in one piece. They have passed
// check_sparse_input.
class SparseTensors {
 public:
  SparseTensors() = default;
  SparseTensors(const at::Tensor& crow, const at::Tensor& col, const at::Tensor& values)
      : crow_(crow.contiguous()),
        col_(col.contiguous()),
        values_(values.resolve_neg().contiguous()) {}

  template <class S>
  engine::SparseInput<S> input(int64_t columns) const {
    return {columns, const_data<char>(crow_), const_data<char>(col_),
            crow_.scalar_type() == at::kLong, const_data<S>(values_)};
  }

 private:
  at::Tensor crow_, col_, values_;
};

}  // namespace pyfastnn
