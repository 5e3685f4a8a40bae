// Forward and backward of a chain of layers h_l = relu(h_{l-1} W_l^T + b_l). A single layer is a
// chain of depth one.
//
// Many rows go tile by tile through all layers, so that what one layer writes is still in the cache
// when the next reads it; the packed weights are shared. Few rows go layer by layer, the columns
// split between threads, and weights are packed panel by panel on the way. Both ways give the same
// bits (gemm.h).
#pragma once

#include <cstdint>
#include <vector>

#include "gemm.h"

namespace pyfastnn::engine {

template <class S>
struct Layer {
  Operand<S> weight;  // W [out, in]
  const S* bias;      // b [out], or null
  int64_t in, out;
  bool relu;
};

// A matrix whose rows lie ld elements apart.
template <class S>
struct Matrix {
  S* data = nullptr;
  int64_t ld = 0;
};

template <class S>
Matrix<const S> as_const(Matrix<S> matrix) {
  return {matrix.data, matrix.ld};
}

// outputs[l] [rows, out_l] receives h_{l+1}; data may be null for layers whose output nobody wants,
// except the last.
template <class S>
void forward(const std::vector<Layer<S>>& layers, int64_t rows, Matrix<const S> input,
             const std::vector<Matrix<S>>& outputs);

// The same for an instruction set, with weights in panels: packed[l] of layer l, whose `weight` is
// not read then; or none.
template <class S>
void forward(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers,
             const std::vector<PackedOperand<S>>& packed, int64_t rows, Matrix<const S> input,
             const std::vector<Matrix<S>>& outputs);

// Where the gradients go; null where they are not wanted. All contiguous.
template <class S>
struct Gradients {
  S* input = nullptr;       // [rows, in_0]
  std::vector<S*> weights;  // [out_l, in_l]
  std::vector<S*> biases;   // [out_l]
};

// outputs[l] [rows, out_l]: what forward gave for the layers that have a ReLU.
template <class S>
void backward(const std::vector<Layer<S>>& layers, int64_t rows, Matrix<const S> input,
              const std::vector<Matrix<const S>>& outputs, Matrix<const S> grad_output,
              const Gradients<S>& gradients);

}  // namespace pyfastnn::engine
