// network_forward of launch.h: layers to chains, as many layers a launch as kernel parameters hold.
#include <algorithm>

#include "kernels/launch_chain.h"
#include "network.h"

namespace pyfastnn::cuda {

bool is_valid_network(const Layer* layers, int64_t depth, DType dtype) {
  for (int64_t l = 0; l < depth; ++l) {
    const int64_t sizes[] = {layers[l].in, layers[l].out};
    if (!runs_whole_network(sizes, 1, dtype)) return false;
    if (l > 0 && layers[l].in != layers[l - 1].out) return false;
  }
  return depth > 0;
}

int64_t widest(const Layer* layers, int64_t depth) {
  int64_t width = layers[0].in;
  for (int64_t l = 0; l < depth; ++l) width = std::max(width, layers[l].out);
  return width;
}

namespace {

ChainLayer chain_layer(const Layer& layer, void* output, bool relu, int64_t element) {
  ChainLayer out = {layer.weight,
                    layer.bias,
                    output,
                    static_cast<int16_t>(layer.in),
                    static_cast<int16_t>(layer.out),
                    static_cast<int16_t>(layer.in),
                    static_cast<int16_t>(layer.out),
                    relu,
                    kWholeInput | kWholeMask};
  if (is_whole(layer.weight, layer.in, element)) out.whole |= kWholeWeight;
  if (output == nullptr || is_whole(output, layer.out, element)) out.whole |= kWholeOutput;
  return out;
}

}  // namespace

int64_t network_forward_workspace(int64_t rows, int64_t depth, DType dtype) {
  // Where one launch ends and the next begins, rows pass through memory: two buffers in turn.
  return depth > kMaxChain ? 2 * round_up(rows * kMaxWidth * element_size(dtype), 16) : 0;
}

cudaError_t network_forward(const NetworkForward& args, cudaStream_t stream) {
  if (!is_valid_network(args.layers, args.depth, args.dtype)) return cudaErrorInvalidValue;
  if (args.rows == 0) return cudaSuccess;
  const int64_t element = element_size(args.dtype), width = widest(args.layers, args.depth);
  const int64_t buffer = network_forward_workspace(args.rows, args.depth, args.dtype) / 2;
  const void* input = args.input;
  for (int64_t start = 0, turn = 0; start < args.depth; start += kMaxChain, ++turn) {
    const int64_t end = std::min(start + kMaxChain, args.depth);
    Chain chain = {};
    chain.input = input;
    chain.rows = args.rows;
    chain.depth = static_cast<int>(end - start);
    chain.in = chain.input_ld = static_cast<int16_t>(args.layers[start].in);
    chain.whole = kWholeMask | kWholeOutput;
    if (is_whole(input, chain.in, element)) chain.whole |= kWholeInput;
    for (int64_t l = start; l < end; ++l) {
      const bool last = l + 1 == args.depth;
      void* output = args.outputs[l];
      if (l + 1 == end && output == nullptr)
        output = static_cast<char*>(args.workspace) + turn % 2 * buffer;
      const bool relu = !last || args.activate_last;
      chain.layers[l - start] = chain_layer(args.layers[l], output, relu, element);
      input = output;
    }
    const cudaError_t error =
        launch_chain<Pass::kFprop>(chain, width, args.dtype, args.math, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pyfastnn::cuda
