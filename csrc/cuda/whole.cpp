// Networks whose activations stay on the chip: one kernel for all layers.
#include "call.h"

namespace pyfastnn {

Tensors forward_whole(const Call& call, const at::Tensor& x, const Parameters& parameters,
                      bool activate_last, bool keep_hidden) {
  const auto depth = static_cast<int64_t>(parameters.depth());
  Tensors outputs;
  std::vector<void*> pointers(depth, nullptr);
  for (int64_t l = keep_hidden ? 0 : depth - 1; l < depth; ++l) {
    outputs.push_back(call.empty({call.rows, parameters.weights[l].size(0)}));
    pointers[l] = data<void>(outputs.back());
  }
  const auto layers = parameters.layers();
  const at::Tensor workspace =
      call.workspace(cuda::network_forward_workspace(call.rows, depth, call.dtype));
  call.check(
      cuda::network_forward({const_data<void>(x), layers.data(), pointers.data(), call.rows, depth,
                             activate_last, call.dtype, call.math, workspace.mutable_data_ptr()},
                            call.stream));
  return outputs;
}

Tensors backward_whole(const Call& call, const BackwardArgs& args) {
  const size_t depth = args.parameters.depth();
  const auto layers = args.parameters.layers();
  Tensors grads(args.needs.size());
  auto wanted = [&](size_t i, at::IntArrayRef sizes) -> void* {
    if (!args.needs[i]) return nullptr;
    grads[i] = call.empty(sizes);
    return data<void>(grads[i]);
  };
  std::vector<void*> weights, biases;
  std::vector<const void*> outputs(depth, nullptr);
  for (size_t l = 0; l < depth; ++l) {
    weights.push_back(wanted(1 + 2 * l, {layers[l].out, layers[l].in}));
    biases.push_back(wanted(2 + 2 * l, {layers[l].out}));
    if (args.has_relu(l)) outputs[l] = const_data<void>(args.outputs[l]);
  }
  void* const input = wanted(0, args.x.sizes());
  const auto count = static_cast<int64_t>(depth);
  const at::Tensor workspace =
      call.workspace(cuda::network_backward_workspace(call.rows, layers.data(), count, call.dtype));
  call.check(cuda::network_backward(
      {const_data<void>(args.dy), const_data<void>(args.x), layers.data(), outputs.data(), input,
       weights.data(), biases.data(), call.rows, count, args.has_relu(depth - 1), call.dtype,
       call.math, workspace.mutable_data_ptr()},
      call.stream));
  return grads;
}

}  // namespace pyfastnn
