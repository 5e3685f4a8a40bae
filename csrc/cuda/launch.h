// CUDA kernels as plain C++ functions: raw device pointers, sizes and a stream; no torch from here
// on. Letters: M rows, K in_features, N out_features. All matrices are row-major and contiguous,
// and need no more alignment than their elements; rows of whole 16-byte words that start on 16
// bytes are read and written faster.
//
// No function waits for the device, reads from it or allocates: all may be captured in a CUDA
// graph. Temporary memory comes from the caller, aligned to 16 bytes, as large as the *_workspace
// function says (0: may be null). Every launch is checked; the first error is returned, and nothing
// is launched after it. Sizes of 0 are fine: sums over no rows are zeros.
//
// Bits: a row of a forward result depends on no other row; gradients depend on shapes and values,
// not on the device. Sums are float32, of float64 tensors float64.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "plan.h"

namespace pyfastnn::cuda {

// Y[M,N] = relu(X[M,K] W[N,K]^T + b[N]), any sizes. float32, bfloat16, float16.
struct Linear {
  const void* input;   // X
  const void* weight;  // W
  const void* bias;    // b, or null
  void* output;        // Y
  int64_t rows, in, out;
  bool relu;  // false: no ReLU
  DType dtype;
  Float32Math math;
};
cudaError_t linear(const Linear& args, cudaStream_t stream);

// dZ = dY where not (Y <= 0), else 0 (a NaN in Y lets the gradient pass), and db = sum of the rows
// of dZ, in one pass over dY and Y. All four dtypes.
struct MaskBias {
  const void* grad_output;  // dY [M,N]
  const void* output;       // Y [M,N]; null: the layer has no ReLU, dZ = dY
  void* grad_z;             // dZ [M,N], may be dY itself; or null: not wanted
  void* grad_bias;          // db [N], or null: not wanted
  int64_t rows, out;
  DType dtype;
  void* workspace;
};
int64_t mask_bias_workspace(int64_t rows, int64_t out, DType dtype);
cudaError_t mask_bias(const MaskBias& args, cudaStream_t stream);

// One layer of a network.
struct Layer {
  const void* weight;  // W [out,in]
  const void* bias;    // b [out], or null
  int64_t in, out;
};

// h_0 = input, h_l = relu(h_{l-1} W_l^T + b_l), with a ReLU after the last layer only if
// activate_last. Any depth; the widths must satisfy runs_whole_network, else
// cudaErrorInvalidValue.
struct NetworkForward {
  const void* input;     // [M, layers[0].in]
  const Layer* layers;   // depth of them, on the host
  void* const* outputs;  // depth pointers, on the host; null: not wanted; the last is wanted always
  int64_t rows, depth;
  bool activate_last;
  DType dtype;
  Float32Math math;
  void* workspace;
};
int64_t network_forward_workspace(int64_t rows, int64_t depth, DType dtype);
cudaError_t network_forward(const NetworkForward& args, cudaStream_t stream);

// All gradients of network_forward, from what it kept. Every gradient is optional: null if not
// wanted. Masks are not (output <= 0).
struct NetworkBackward {
  const void* grad_output;     // dY [M, last out]
  const void* input;           // [M, layers[0].in]
  const Layer* layers;         // depth of them, on the host; biases are not read
  const void* const* outputs;  // depth pointers; the last is read only if activate_last
  void* grad_input;            // [M, layers[0].in], or null
  void* const* grad_weights;   // depth pointers [out,in], entries may be null
  void* const* grad_biases;    // depth pointers [out], entries may be null
  int64_t rows, depth;
  bool activate_last;
  DType dtype;
  Float32Math math;
  void* workspace;
};
int64_t network_backward_workspace(int64_t rows, const Layer* layers, int64_t depth, DType dtype);
cudaError_t network_backward(const NetworkBackward& args, cudaStream_t stream);

}  // namespace pyfastnn::cuda
