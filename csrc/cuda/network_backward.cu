// network_backward of launch.h, in four steps, each a launch (several for more layers than kernel
// parameters hold): transpose the weights; take dZ down through all layers, one pass over the rows;
// weight and bias gradients of all layers, in parts; add the parts.
#include <algorithm>
#include <vector>

#include "kernels/launch_chain.h"
#include "kernels/launch_reduce.h"
#include "kernels/launch_wgrad.h"
#include "kernels/launch_transpose.h"
#include "network.h"

namespace pyfastnn::cuda {

namespace {

// Addresses in the workspace; with a null workspace, `size` is what it must have.
struct Workspace {
  std::vector<void*> transposed;  // W^T [in, padded(out)]
  std::vector<void*> grad_z;      // dZ [rows, padded(out)]
  std::vector<float*> weight_parts, bias_parts;
  int64_t size = 0;

  Workspace(void* memory, int64_t rows, const Layer* layers, int64_t depth, DType dtype)
      : memory_(static_cast<char*>(memory)) {
    const int64_t element = element_size(dtype), parts = wgrad_split(rows, depth).parts;
    for (int64_t l = 0; l < depth; ++l) {
      const int64_t in = layers[l].in, out = layers[l].out, ld = padded(out, dtype);
      transposed.push_back(take(in * ld * element));
      grad_z.push_back(take(rows * ld * element));
      weight_parts.push_back(static_cast<float*>(take(parts * in * out * 4)));
      bias_parts.push_back(static_cast<float*>(take(parts * out * 4)));
    }
  }

 private:
  void* take(int64_t bytes) {
    void* start = memory_ == nullptr ? nullptr : memory_ + size;
    size += round_up(bytes, 16);
    return start;
  }
  char* memory_;
};

class Backward {
 public:
  Backward(const NetworkBackward& args, cudaStream_t stream)
      : args_(args),
        stream_(stream),
        element_(element_size(args.dtype)),
        width_(widest(args.layers, args.depth)),
        split_(wgrad_split(args.rows, args.depth)),
        space_(args.workspace, args.rows, args.layers, args.depth, args.dtype) {
    for (lowest_ = 0; lowest_ < args.depth && !wants(lowest_);) ++lowest_;
    // Layers first_ and up are multiplied with their weights: dZ of lowest_ needs those above it.
    first_ = args.grad_input != nullptr ? 0 : lowest_ + 1;
  }

  cudaError_t run() const {
    if (args_.rows > 0) {
      cudaError_t error = transpose_weights();
      if (error == cudaSuccess) error = data_gradients();
      if (error == cudaSuccess) error = weight_gradients();
      if (error != cudaSuccess) return error;
    }
    return add_parts();
  }

 private:
  bool wants(int64_t l) const {
    return args_.grad_weights[l] != nullptr || args_.grad_biases[l] != nullptr;
  }
  bool masked(int64_t l) const { return l + 1 < args_.depth || args_.activate_last; }

  // dZ of a layer: that of the last is dY itself if it has no ReLU.
  const void* grad_z(int64_t l) const { return masked(l) ? space_.grad_z[l] : args_.grad_output; }
  int64_t ld_grad_z(int64_t l) const {
    const int64_t out = args_.layers[l].out;
    return masked(l) ? padded(out, args_.dtype) : out;
  }
  const void* input(int64_t l) const { return l == 0 ? args_.input : args_.outputs[l - 1]; }

  cudaError_t transpose_weights() const {
    std::vector<TransposeLayer> list;
    for (int64_t l = first_; l < args_.depth; ++l) {
      const Layer& layer = args_.layers[l];
      list.push_back({layer.weight, space_.transposed[l], static_cast<int16_t>(layer.out),
                      static_cast<int16_t>(layer.in),
                      static_cast<int16_t>(padded(layer.out, args_.dtype))});
    }
    return launch_transpose(list, width_, args_.dtype, args_.math, stream_);
  }

  // The layer whose results are dZ of the layer below it, or the gradient of the input.
  ChainLayer chain_layer(int64_t l, bool stored) const {
    const Layer& layer = args_.layers[l];
    ChainLayer out = {};
    out.weight = space_.transposed[l];
    out.in = static_cast<int16_t>(layer.out);
    out.out = static_cast<int16_t>(layer.in);
    out.weight_ld = static_cast<int16_t>(padded(layer.out, args_.dtype));
    out.whole = kWholeWeight | kWholeInput;
    if (l == 0) {
      out.output = args_.grad_input;
      out.output_ld = out.out;
      out.whole |= kWholeMask;
      if (is_whole(args_.grad_input, layer.in, element_)) out.whole |= kWholeOutput;
    } else {
      out.extra = args_.outputs[l - 1];
      out.output = stored ? space_.grad_z[l - 1] : nullptr;
      out.output_ld = static_cast<int16_t>(padded(layer.in, args_.dtype));
      out.whole |= kWholeOutput;
      if (is_whole(out.extra, layer.in, element_)) out.whole |= kWholeMask;
    }
    return out;
  }

  // The chain from layer `top` down, as it comes from above.
  Chain chain_from(int64_t top) const {
    const Layer& layer = args_.layers[top];
    const bool is_last = top + 1 == args_.depth;
    Chain chain = {};
    chain.input = is_last ? args_.grad_output : space_.grad_z[top];
    chain.rows = args_.rows;
    chain.in = static_cast<int16_t>(layer.out);
    chain.masked_ld = static_cast<int16_t>(padded(layer.out, args_.dtype));
    chain.input_ld = is_last ? chain.in : chain.masked_ld;
    chain.whole = kWholeOutput;
    if (is_last && args_.activate_last) {
      chain.input_mask = args_.outputs[top];
      chain.masked_input = wants(top) ? space_.grad_z[top] : nullptr;
    }
    if (is_whole(chain.input, chain.input_ld, element_)) chain.whole |= kWholeInput;
    if (is_whole(chain.input_mask, chain.in, element_)) chain.whole |= kWholeMask;
    return chain;
  }

  cudaError_t data_gradients() const {
    const bool only_mask =
        first_ >= args_.depth && masked(args_.depth - 1) && wants(args_.depth - 1);
    if (first_ >= args_.depth && !only_mask) return cudaSuccess;
    int64_t top = args_.depth - 1;
    do {
      Chain chain = chain_from(top);
      const int64_t bottom = std::max(top - kMaxChain + 1, first_);
      for (int64_t l = top; l >= bottom; --l) {
        const bool stored = l > 0 && (wants(l - 1) || l == bottom);
        chain.layers[chain.depth++] = chain_layer(l, stored);
      }
      const cudaError_t error =
          launch_chain<Pass::kDgrad>(chain, width_, args_.dtype, args_.math, stream_);
      if (error != cudaSuccess) return error;
      top = bottom - 1;
    } while (top >= first_);
    return cudaSuccess;
  }

  cudaError_t weight_gradients() const {
    std::vector<WgradLayer> list;
    for (int64_t l = lowest_; l < args_.depth; ++l) {
      if (!wants(l)) continue;
      const Layer& layer = args_.layers[l];
      WgradLayer wgrad = {};
      wgrad.grad_z = grad_z(l);
      wgrad.input = input(l);
      if (args_.grad_weights[l] != nullptr) wgrad.weight_parts = space_.weight_parts[l];
      if (args_.grad_biases[l] != nullptr) wgrad.bias_parts = space_.bias_parts[l];
      wgrad.out = static_cast<int16_t>(layer.out);
      wgrad.in = static_cast<int16_t>(layer.in);
      wgrad.ld_z = static_cast<int16_t>(ld_grad_z(l));
      wgrad.whole_z = is_whole(wgrad.grad_z, wgrad.ld_z, element_);
      wgrad.whole_input = is_whole(wgrad.input, layer.in, element_);
      list.push_back(wgrad);
    }
    return launch_wgrad(list, args_.rows, split_, width_, args_.dtype, args_.math, stream_);
  }

  cudaError_t add_parts() const {
    std::vector<Segment> list;
    for (int64_t l = 0; l < args_.depth; ++l) {
      const Layer& layer = args_.layers[l];
      if (args_.grad_weights[l] != nullptr)
        list.push_back({space_.weight_parts[l], args_.grad_weights[l], layer.in * layer.out});
      if (args_.grad_biases[l] != nullptr)
        list.push_back({space_.bias_parts[l], args_.grad_biases[l], layer.out});
    }
    return launch_reduce(list, split_.parts, args_.dtype, stream_);
  }

  const NetworkBackward& args_;
  cudaStream_t stream_;
  int64_t element_, width_;
  Split split_;
  Workspace space_;
  int64_t lowest_, first_;
};

}  // namespace

int64_t network_backward_workspace(int64_t rows, const Layer* layers, int64_t depth, DType dtype) {
  return Workspace(nullptr, rows, layers, depth, dtype).size;
}

cudaError_t network_backward(const NetworkBackward& args, cudaStream_t stream) {
  if (!is_valid_network(args.layers, args.depth, args.dtype)) return cudaErrorInvalidValue;
  return Backward(args, stream).run();
}

}  // namespace pyfastnn::cuda
