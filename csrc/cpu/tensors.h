// Tensors as the engine sees them: rows, leading dimensions, storage types.
#pragma once

#include <ATen/DimVector.h>
#include <ATen/EmptyTensor.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/TracerMode.h>
#include <ATen/core/Tensor.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

#include "../tensor_data.h"
#include "engine/network.h"

namespace pyfastnn {

// Whether [*, F] can be read as rows one after the other, F neighbouring elements each.
inline bool has_plain_rows(const at::Tensor& tensor) {
  return tensor.dim() == 2 && (tensor.size(1) <= 1 || tensor.stride(1) == 1);
}

// A copy if need be. The dispatcher resolves negative views; the bindings go around it.
inline at::Tensor with_plain_rows(const at::Tensor& tensor) {
  const at::Tensor values = tensor.is_neg() ? tensor.resolve_neg() : tensor;
  return has_plain_rows(values) ? values : values.contiguous();
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

// W [N, K] with rows or columns in one piece each; a copy if need be.
inline at::Tensor with_plain_lines(const at::Tensor& weight) {
  return lies_by_columns(weight) && !weight.is_neg() ? weight : with_plain_rows(weight);
}

// What with_plain_lines has returned.
template <class S>
engine::Operand<S> weight_operand(const at::Tensor& weight) {
  if (lies_by_columns(weight))
    return {const_data<S>(weight), weight.stride(1), engine::Layout::kColumns};
  const engine::Matrix<const S> rows = matrix<S>(weight);
  return {rows.data, rows.ld, engine::Layout::kRows};
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
