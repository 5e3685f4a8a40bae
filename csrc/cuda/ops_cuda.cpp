// CUDA kernels of the operators. Nothing here waits for the device or reads from it, so that CUDA
// graphs can capture every call.
#include <ATen/Context.h>
#include <c10/util/env.h>
#include <torch/library.h>

#include <algorithm>

#include "../ops.h"
#include "call.h"

namespace pyfastnn {
namespace {

cuda::DType as_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return cuda::DType::kFloat32;
    case at::kDouble:
      return cuda::DType::kFloat64;
    case at::kBFloat16:
      return cuda::DType::kBFloat16;
    default:  // the checks have refused every other dtype
      return cuda::DType::kFloat16;
  }
}

Kernels chosen_kernels() {
  const std::string name = c10::utils::get_env("PYFASTNN_CUDA_KERNELS").value_or("auto");
  if (name == "torch") return Kernels::kTorch;
  if (name == "own") return Kernels::kOwn;
  TORCH_CHECK_VALUE(name == "auto", "PYFASTNN_CUDA_KERNELS: expected auto, torch or own, got '",
                    name, "'");
  return Kernels::kAuto;
}

// allowTF32CuBLAS() raises where only the newer of torch's two interfaces has been used.
cuda::Float32Math float32_math() {
  const auto precision =
      at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL);
  return precision == at::Float32Precision::TF32 ? cuda::Float32Math::kTF32
                                                 : cuda::Float32Math::kExact;
}

Tensors run_forward(const char* op, const at::Tensor& input, const Parameters& parameters,
                    bool activate_last, bool keep_hidden) {
  const Call call(op, input);
  Tensors outputs;
  at::Tensor x = as_rows(input);
  for (const Run& run : call.runs(parameters.sizes())) {
    const bool is_last = run.end == parameters.depth();
    const auto forward = run.is_whole ? forward_whole : forward_by_layer;
    const Tensors made =
        forward(call, x, parameters.of(run), !is_last || activate_last, keep_hidden);
    x = made.back();
    if (keep_hidden || is_last) outputs.insert(outputs.end(), made.begin(), made.end());
  }
  auto sizes = input.sizes().vec();
  for (at::Tensor& output : outputs) {
    sizes.back() = output.size(1);
    output = output.view(sizes);
  }
  return outputs;
}

// Gradients in the order of args.needs, undefined where not needed.
Tensors run_backward(const Call& call, const BackwardArgs& args) {
  Tensors grads(args.needs.size());
  const std::vector<Run> runs = call.runs(args.parameters.sizes());
  at::Tensor dy = args.dy;
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    BackwardArgs part = args.of(*run, dy);
    part.may_overwrite_dy = run != runs.rbegin();
    const Tensors made = run->is_whole ? backward_whole(call, part) : backward_by_layer(call, part);
    std::copy(made.begin() + 1, made.end(), grads.begin() + 1 + 2 * run->begin);
    if (!part.needs[0]) return grads;  // nothing below needs anything
    dy = made[0];
  }
  grads[0] = dy;
  return grads;
}

at::Tensor linear_relu_cuda(const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
  check_linear_relu(input, weight, bias);
  Parameters parameters;
  parameters.add(weight, bias);
  return run_forward("linear_relu", input, parameters, /*activate_last=*/true,
                     /*keep_hidden=*/false)[0];
}

Parameters parameters_of(at::TensorList weights, const OptionalTensors& biases) {
  Parameters parameters;
  for (size_t l = 0; l < weights.size(); ++l) parameters.add(weights[l], biases.get(l));
  return parameters;
}

at::Tensor mlp_cuda(const at::Tensor& input, at::TensorList weights, const OptionalTensors& biases,
                    bool activate_last) {
  check_mlp(input, weights, biases);
  return run_forward("mlp", input, parameters_of(weights, biases), activate_last,
                     /*keep_hidden=*/false)[0];
}

Tensors mlp_forward_cuda(const at::Tensor& input, at::TensorList weights,
                         const OptionalTensors& biases, bool activate_last) {
  check_mlp(input, weights, biases);
  return run_forward("mlp", input, parameters_of(weights, biases), activate_last,
                     /*keep_hidden=*/true);
}

Tensors mlp_backward_cuda(const at::Tensor& grad_output, const at::Tensor& input,
                          at::TensorList weights, at::TensorList outputs, bool activate_last,
                          const c10::List<bool>& needs_grad) {
  check_mlp_backward(grad_output, input, weights, outputs, activate_last, needs_grad);
  const Call call("mlp_backward", input);
  BackwardArgs args{as_rows(grad_output), as_rows(input), {}, {}, {}};
  for (const at::Tensor& weight : weights) args.parameters.add(weight, std::nullopt);
  for (const at::Tensor& output : outputs) args.outputs.push_back(as_rows(output));
  for (size_t i = 0; i < needs_grad.size(); ++i) args.needs.push_back(needs_grad[i]);
  Tensors grads = run_backward(call, args);
  if (args.needs[0]) grads[0] = grads[0].view(input.sizes());
  grads.erase(std::remove_if(grads.begin(), grads.end(), [](auto& g) { return !g.defined(); }),
              grads.end());
  return grads;
}

}  // namespace

Call::Call(const char* op_name, const at::Tensor& input)
    : op(op_name),
      rows(row_count(input)),
      device(input.device()),
      no_autocast(c10::autocast_dispatch_keyset),
      options(input.options()),
      stream(c10::cuda::getCurrentCUDAStream()),
      dtype(as_dtype(input.scalar_type())),
      math(float32_math()),
      kernels(chosen_kernels()) {}

std::vector<Run> Call::runs(const std::vector<int64_t>& sizes) const {
  const auto depth = static_cast<int64_t>(sizes.size()) - 1;
  if (kernels == Kernels::kTorch || rows == 0) return {{0, static_cast<size_t>(depth), false}};
  std::vector<Run> result;
  for (int64_t begin = 0, end = 0; begin < depth; begin = end) {
    end = cuda::run_end(sizes.data(), depth, begin, dtype);
    result.push_back({static_cast<size_t>(begin), static_cast<size_t>(end),
                      cuda::is_narrow(sizes[begin], sizes[begin + 1], dtype)});
  }
  return result;
}

void Call::check(cudaError_t status) const {
  if (status == cudaSuccess) return;
  throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, status,
                              c10::str(op, ": a CUDA kernel of pyfastnn could not be launched: ",
                                       cudaGetErrorString(status)));
}

BackwardArgs BackwardArgs::of(const Run& run, const at::Tensor& run_dy) const {
  BackwardArgs part{
      run_dy, run.begin == 0 ? x : outputs[run.begin - 1], parameters.of(run), {}, {}};
  for (size_t l = run.begin; l < run.end && has_relu(l); ++l) part.outputs.push_back(outputs[l]);
  part.needs.push_back(needs_input(run.begin));
  for (size_t l = run.begin; l < run.end; ++l) {
    part.needs.push_back(needs_weight(l));
    part.needs.push_back(needs_bias(l));
  }
  return part;
}

TORCH_LIBRARY_IMPL(pyfastnn, CUDA, m) {
  m.impl("linear_relu", linear_relu_cuda);
  m.impl("mlp", mlp_cuda);
  m.impl("mlp_forward", mlp_forward_cuda);
  m.impl("mlp_backward", mlp_backward_cuda);
}

}  // namespace pyfastnn
