// launch.h by plain loops on the CPU, as slow and simple as can be: products and sums in double,
// one rounding where a kernel writes. Every workspace is overwritten to its last byte, so that a
// sanitizer or a wrong result shows one that is too small or used by somebody else.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/launch.h"

namespace pyfastnn::cuda {
namespace cpu {

constexpr int64_t kWorkspace = 48;  // bytes, of every function that takes one

// What ran, for the tests: the names of the functions of launch.h.
inline std::vector<std::string>& log() {
  static std::vector<std::string> calls;
  return calls;
}

inline cudaError_t enter(const std::string& name, Float32Math math = Float32Math::kExact) {
  log().push_back(math == Float32Math::kTF32 ? name + "_tf32" : name);
  const char* broken = std::getenv("PYFASTNN_TEST_BROKEN_LAUNCH");
  return broken != nullptr && name == broken ? cudaErrorInvalidValue : cudaSuccess;
}

inline double read(const void* data, int64_t i, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<const float*>(data)[i];
    case DType::kFloat64:
      return static_cast<const double*>(data)[i];
    case DType::kBFloat16:
      return static_cast<float>(static_cast<const c10::BFloat16*>(data)[i]);
    default:
      return static_cast<float>(static_cast<const c10::Half*>(data)[i]);
  }
}

inline void write(void* data, int64_t i, DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      break;
    case DType::kFloat64:
      static_cast<double*>(data)[i] = value;
      break;
    case DType::kBFloat16:
      static_cast<c10::BFloat16*>(data)[i] = static_cast<float>(value);
      break;
    default:
      static_cast<c10::Half*>(data)[i] = static_cast<float>(value);
  }
}

// C[i,j] = sum over k of a(i, k) b(k, j)
template <class A, class B>
void product(void* c, int64_t rows, int64_t columns, int64_t depth, DType dtype, const A& a,
             const B& b) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += a(i, k) * b(k, j);
      write(c, i * columns + j, dtype, sum);
    }
  }
}

inline std::vector<char> matrix(int64_t rows, int64_t columns, DType dtype) {
  return std::vector<char>(rows * columns * element_size(dtype));
}

}  // namespace cpu

inline cudaError_t linear(const Linear& args, cudaStream_t /*stream*/) {
  for (int64_t i = 0; i < args.rows; ++i) {
    for (int64_t j = 0; j < args.out; ++j) {
      double sum = args.bias != nullptr ? cpu::read(args.bias, j, args.dtype) : 0;
      for (int64_t k = 0; k < args.in; ++k) {
        sum += cpu::read(args.input, i * args.in + k, args.dtype) *
               cpu::read(args.weight, j * args.in + k, args.dtype);
      }
      cpu::write(args.output, i * args.out + j, args.dtype, args.relu && sum <= 0 ? 0 : sum);
    }
  }
  return cpu::enter("linear", args.math);
}

inline int64_t mask_bias_workspace(int64_t /*rows*/, int64_t /*out*/, DType /*dtype*/) {
  return cpu::kWorkspace;
}

inline cudaError_t mask_bias(const MaskBias& args, cudaStream_t /*stream*/) {
  std::memset(args.workspace, 0xff, cpu::kWorkspace);
  for (int64_t j = 0; j < args.out; ++j) {
    double sum = 0;
    for (int64_t i = j; i < args.rows * args.out; i += args.out) {
      const bool masked = args.output != nullptr && cpu::read(args.output, i, args.dtype) <= 0;
      const double dz = masked ? 0 : cpu::read(args.grad_output, i, args.dtype);
      if (args.grad_z != nullptr) cpu::write(args.grad_z, i, args.dtype, dz);
      sum += dz;
    }
    if (args.grad_bias != nullptr) cpu::write(args.grad_bias, j, args.dtype, sum);
  }
  return cpu::enter("mask_bias");
}

inline int64_t network_forward_workspace(int64_t /*rows*/, int64_t /*depth*/, DType /*dtype*/) {
  return cpu::kWorkspace;
}

inline cudaError_t network_forward(const NetworkForward& args, cudaStream_t stream) {
  std::memset(args.workspace, 0xff, cpu::kWorkspace);
  std::vector<std::vector<char>> kept;
  const void* h = args.input;
  for (int64_t l = 0; l < args.depth; ++l) {
    const Layer& layer = args.layers[l];
    kept.push_back(cpu::matrix(args.rows, layer.out, args.dtype));
    void* y = args.outputs[l] != nullptr ? args.outputs[l] : kept.back().data();
    linear({h, layer.weight, layer.bias, y, args.rows, layer.in, layer.out,
            l + 1 < args.depth || args.activate_last, args.dtype, args.math},
           stream);
    cpu::log().pop_back();
    h = y;
  }
  return cpu::enter("network_forward", args.math);
}

inline int64_t network_backward_workspace(int64_t /*rows*/, const Layer* /*layers*/,
                                          int64_t /*depth*/, DType /*dtype*/) {
  return cpu::kWorkspace;
}

inline cudaError_t network_backward(const NetworkBackward& args, cudaStream_t stream) {
  std::memset(args.workspace, 0xff, cpu::kWorkspace);
  std::vector<char> own_workspace(cpu::kWorkspace);
  const void* dy = args.grad_output;
  std::vector<std::vector<char>> kept;
  for (int64_t l = args.depth; l-- > 0;) {
    const Layer& layer = args.layers[l];
    kept.push_back(cpu::matrix(args.rows, layer.out, args.dtype));
    void* dz = kept.back().data();
    const bool relu = l + 1 < args.depth || args.activate_last;
    mask_bias({dy, relu ? args.outputs[l] : nullptr, dz, args.grad_biases[l], args.rows, layer.out,
               args.dtype, own_workspace.data()},
              stream);
    cpu::log().pop_back();
    const void* x = l == 0 ? args.input : args.outputs[l - 1];
    auto dz_at = [&](int64_t i, int64_t j) { return cpu::read(dz, i * layer.out + j, args.dtype); };
    if (args.grad_weights[l] != nullptr) {
      cpu::product(
          args.grad_weights[l], layer.out, layer.in, args.rows, args.dtype,
          [&](int64_t n, int64_t m) { return dz_at(m, n); },
          [&](int64_t m, int64_t k) { return cpu::read(x, m * layer.in + k, args.dtype); });
    }
    kept.push_back(cpu::matrix(args.rows, layer.in, args.dtype));
    void* dx = l == 0 ? args.grad_input : kept.back().data();
    if (l == 0 && dx == nullptr) break;
    cpu::product(dx, args.rows, layer.in, layer.out, args.dtype, dz_at, [&](int64_t n, int64_t k) {
      return cpu::read(layer.weight, n * layer.in + k, args.dtype);
    });
    dy = dx;
  }
  return cpu::enter("network_backward", args.math);
}

}  // namespace pyfastnn::cuda
