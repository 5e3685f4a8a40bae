// Networks layer by layer: matrix products of torch (or our fused linear layer), and our kernel
// that masks a gradient and sums it for the bias.
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>

#include "call.h"

namespace pyfastnn {
namespace {

at::Tensor linear_by_us(const Call& call, const at::Tensor& x, const at::Tensor& weight,
                        const at::Tensor& bias, bool relu) {
  const at::Tensor y = call.empty({call.rows, weight.size(0)});
  call.check(cuda::linear({const_data<void>(x), const_data<void>(weight),
                           bias.defined() ? const_data<void>(bias) : nullptr, data<void>(y),
                           call.rows, weight.size(1), weight.size(0), relu, call.dtype, call.math},
                          call.stream));
  return y;
}

// at::_addmm_activation would save a pass over Y, but its ReLU (cublasLt's) turns NaN into 0.
at::Tensor linear_by_torch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           bool relu) {
  at::Tensor y = bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
  return relu ? at::relu_(y) : y;
}

// dZ of a layer from dY and Y (undefined: no ReLU), and db if it is wanted, in one pass.
struct Masked {
  const at::Tensor& dy;
  const at::Tensor& output;
  bool needs_dz;
  bool may_overwrite;  // dY is ours
  at::Tensor* grad_bias;
};

at::Tensor mask_bias(const Call& call, const Masked& args) {
  const bool masks = args.output.defined() && args.needs_dz;
  if (!masks && args.grad_bias == nullptr) return args.dy;
  const int64_t out = args.dy.size(1);
  const at::Tensor dz = masks && !args.may_overwrite ? call.empty({call.rows, out}) : args.dy;
  if (args.grad_bias != nullptr) *args.grad_bias = call.empty({out});
  const at::Tensor workspace =
      call.workspace(cuda::mask_bias_workspace(call.rows, out, call.dtype));
  call.check(cuda::mask_bias(
      {const_data<void>(args.dy), args.output.defined() ? const_data<void>(args.output) : nullptr,
       masks ? data<void>(dz) : nullptr,
       args.grad_bias != nullptr ? data<void>(*args.grad_bias) : nullptr, call.rows, out,
       call.dtype, workspace.mutable_data_ptr()},
      call.stream));
  return dz;
}

}  // namespace

Tensors forward_by_layer(const Call& call, const at::Tensor& x, const Parameters& parameters,
                         bool activate_last, bool keep_hidden) {
  const bool is_ours = call.kernels == Kernels::kOwn && call.dtype != cuda::DType::kFloat64;
  Tensors outputs;
  at::Tensor h = x;
  for (size_t l = 0; l < parameters.depth(); ++l) {
    const bool is_last = l + 1 == parameters.depth();
    const bool relu = !is_last || activate_last;
    const at::Tensor &weight = parameters.weights[l], &bias = parameters.biases[l];
    h = is_ours ? linear_by_us(call, h, weight, bias, relu)
                : linear_by_torch(h, weight, bias, relu);
    if (keep_hidden || is_last) outputs.push_back(h);
  }
  return outputs;
}

Tensors backward_by_layer(const Call& call, const BackwardArgs& args) {
  Tensors grads(args.needs.size());
  at::Tensor grad = args.dy;  // of the output of layer l, then of its sum, then of its input
  for (size_t l = args.parameters.depth(); l-- > 0;) {
    const bool is_last = l + 1 == args.parameters.depth();
    const at::Tensor output = args.has_relu(l) ? args.outputs[l] : at::Tensor();
    grad = mask_bias(call, {grad, output, args.needs_weight(l) || args.needs_input(l),
                            /*may_overwrite=*/!is_last || args.may_overwrite_dy,
                            args.needs_bias(l) ? &grads[2 + 2 * l] : nullptr});
    const at::Tensor& layer_input = l == 0 ? args.x : args.outputs[l - 1];
    if (args.needs_weight(l)) grads[1 + 2 * l] = at::mm(grad.t(), layer_input);
    if (!args.needs_input(l)) return grads;
    grad = at::mm(grad, args.parameters.weights[l]);
  }
  grads[0] = grad;
  return grads;
}

}  // namespace pyfastnn
