// Tensors as rows and pointers, on every device.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

namespace pyfastnn {

inline int64_t row_count(const at::Tensor& tensor) {
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < tensor.dim(); ++d) rows *= tensor.size(d);
  return rows;
}

// Whether W [N, K] lies in memory as [K, N], its columns in one piece each.
inline bool lies_by_columns(const at::Tensor& weight) {
  return weight.sym_stride(1) != 1 && weight.sym_stride(0) == 1;
}

// Storage may have been freed behind a tensor's back, as sharding does.
inline void check_storage(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const size_t wanted =
      at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size(),
                                       static_cast<size_t>(tensor.storage_offset()));
  TORCH_CHECK(tensor.storage().nbytes() >= wanted, "pyfastnn: expected a tensor of shape ",
              tensor.sizes(), " to have its ", wanted, " bytes of storage, got ",
              tensor.storage().nbytes());
}

template <class S>
S* data(const at::Tensor& tensor) {
  check_storage(tensor);
  return static_cast<S*>(tensor.mutable_data_ptr());
}
template <class S>
const S* const_data(const at::Tensor& tensor) {
  check_storage(tensor);
  return static_cast<const S*>(tensor.const_data_ptr());
}

}  // namespace pyfastnn
