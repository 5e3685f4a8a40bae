// What every CUDA call of an operator needs: its device and stream, and its tensors as launch.h
// takes them. The only file that includes CUDA headers of torch.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <string>
#include <vector>

#include "../tensor_data.h"
#include "launch.h"

namespace pyfastnn {

using Tensors = std::vector<at::Tensor>;

// PYFASTNN_CUDA_KERNELS, see the README: whose matrix products a call uses.
enum class Kernels {
  kAuto,   // ours for networks that they take whole, else torch's
  kTorch,  // torch's
  kOwn,    // ours where there is one: in all forwards but float64, in backwards as kAuto
};

// [*, F] -> [M, F], contiguous; a copy if need be.
inline at::Tensor as_rows(const at::Tensor& tensor) {
  return tensor.contiguous().view({row_count(tensor), tensor.size(-1)});
}

// Layers [begin, end) of a network, which go one way.
struct Run {
  size_t begin, end;
  bool is_whole;  // by the whole-network kernels, else layer by layer
};

// What all kernels of one call have in common. While it lives, its device is the current one and
// torch's operators, which it may call, do not cast.
struct Call {
  Call(const char* op_name, const at::Tensor& input);

  // The runs of a network of these sizes (see plan.h), in their order; all layer by layer if there
  // are no rows or PYFASTNN_CUDA_KERNELS says so.
  std::vector<Run> runs(const std::vector<int64_t>& sizes) const;

  at::Tensor empty(at::IntArrayRef sizes) const { return at::empty(sizes, options); }
  at::Tensor workspace(int64_t bytes) const { return at::empty({bytes}, options.dtype(at::kByte)); }

  // Raises torch.AcceleratorError unless the status is a success.
  void check(cudaError_t status) const;

  const char* op;
  int64_t rows;
  c10::DeviceGuard device;
  c10::impl::ExcludeDispatchKeyGuard no_autocast;
  at::TensorOptions options;
  cudaStream_t stream;
  cuda::DType dtype;
  cuda::Float32Math math;
  Kernels kernels;
};

// The layers of a call, contiguous; keeps copies alive.
struct Parameters {
  void add(const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
    weights.push_back(weight.contiguous());
    biases.push_back(bias.has_value() && bias->defined() ? bias->contiguous() : at::Tensor());
  }

  size_t depth() const { return weights.size(); }

  Parameters of(const Run& run) const {
    Parameters result;
    for (size_t l = run.begin; l < run.end; ++l) {
      result.weights.push_back(weights[l]);
      result.biases.push_back(biases[l]);
    }
    return result;
  }

  // in_features of the first layer, then out_features of each.
  std::vector<int64_t> sizes() const {
    std::vector<int64_t> result{weights[0].size(1)};
    for (const at::Tensor& weight : weights) result.push_back(weight.size(0));
    return result;
  }

  std::vector<cuda::Layer> layers() const {
    std::vector<cuda::Layer> result;
    for (size_t l = 0; l < depth(); ++l) {
      result.push_back({const_data<void>(weights[l]),
                        biases[l].defined() ? const_data<void>(biases[l]) : nullptr,
                        weights[l].size(1), weights[l].size(0)});
    }
    return result;
  }

  Tensors weights, biases;  // a missing bias is undefined
};

// ---- the two ways of a run of layers ----
//
// x is [M, K]. Forward: the outputs of every layer if keep_hidden, else of the last, [M, N_l].

Tensors forward_whole(const Call& call, const at::Tensor& x, const Parameters& parameters,
                      bool activate_last, bool keep_hidden);
Tensors forward_by_layer(const Call& call, const at::Tensor& x, const Parameters& parameters,
                         bool activate_last, bool keep_hidden);

// Backward: gradients of [input, weight_1, bias_1, ...], undefined where not needed.
struct BackwardArgs {
  at::Tensor dy, x;  // [M, N], [M, K]
  Parameters parameters;
  Tensors outputs;  // [M, N_l] of every layer that has a ReLU
  std::vector<bool> needs;
  bool may_overwrite_dy = false;

  // What a run of the layers takes, with its own dY.
  BackwardArgs of(const Run& run, const at::Tensor& run_dy) const;

  bool has_relu(size_t layer) const { return layer < outputs.size(); }
  bool needs_weight(size_t layer) const { return needs[1 + 2 * layer]; }
  bool needs_bias(size_t layer) const { return needs[2 + 2 * layer]; }
  // The gradient of the layer's input, for itself or for what lies below.
  bool needs_input(size_t layer) const {
    for (size_t i = 0; i <= 2 * layer; ++i) {
      if (needs[i]) return true;
    }
    return false;
  }
};

Tensors backward_whole(const Call& call, const BackwardArgs& args);
Tensors backward_by_layer(const Call& call, const BackwardArgs& args);

}  // namespace pyfastnn
