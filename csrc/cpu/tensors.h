// Tensors as the engine sees them: pointers, rows, leading dimensions.
#pragma once

#include <ATen/DimVector.h>
#include <ATen/EmptyTensor.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/TracerMode.h>
#include <ATen/core/Tensor.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

#include "engine/network.h"

namespace pyfastnn {

inline int64_t row_count(const at::Tensor& tensor) {
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < tensor.dim(); ++d) rows *= tensor.size(d);
  return rows;
}

// Whether [*, F] can be read as rows one after the other, F neighbouring elements each.
inline bool has_plain_rows(const at::Tensor& tensor) {
  return tensor.dim() == 2 && (tensor.size(1) <= 1 || tensor.stride(1) == 1);
}

// A copy if need be. The dispatcher resolves negative views; the bindings go around it.
inline at::Tensor with_plain_rows(const at::Tensor& tensor) {
  const at::Tensor values = tensor.is_neg() ? tensor.resolve_neg() : tensor;
  return has_plain_rows(values) ? values : values.contiguous();
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

// ---- for bindings, which go around the dispatcher: it would have handled all of this ----

// A dense tensor on the CPU, no subclass and not inside a functorch transform.
inline bool is_plain(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == at::kStrided && !tensor.is_nested() &&
         !tensor._is_zerotensor() && !at::isTensorSubclassLike(tensor);
}

// Whether something wants to see every operation: torch.jit.trace, make_fx, FakeTensorMode.
inline bool is_watched() {
  return at::tracer::impl::is_dispatch_enabled() ||
         c10::impl::TorchDispatchModeTLS::any_modes_set();
}

template <class S>
engine::Matrix<const S> matrix(const at::Tensor& tensor) {
  const int64_t ld = has_plain_rows(tensor) ? tensor.stride(0) : tensor.size(-1);
  return {const_data<S>(tensor), ld};
}

// Calls body with a value of the engine's storage type. The checks have refused every other dtype.
template <class Body>
void dispatch(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kFloat:
      return body(float{});
    case at::kDouble:
      return body(double{});
    case at::kBFloat16:
      return body(engine::BFloat16{});
    default:
      return body(engine::Half{});
  }
}

// at::empty without the dispatcher, which would bring us here all the same (0.15 us).
inline at::Tensor empty_like_input(at::IntArrayRef sizes, const at::Tensor& input) {
  return at::detail::empty_cpu(sizes, input.scalar_type(), /*pin_memory=*/false,
                               /*memory_format_opt=*/std::nullopt);
}

inline at::Tensor empty_rows_like(const at::Tensor& input, int64_t features) {
  at::DimVector sizes(input.sizes());
  sizes.back() = features;
  return empty_like_input(sizes, input);
}

}  // namespace pyfastnn
