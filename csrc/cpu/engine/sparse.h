// A linear layer whose input is sparse. Costs grow with the entries of the input, not with its
// columns. Results do not depend on the number of threads, those of a row not on other rows.
#pragma once

#include "pack.h"
#include "sparse_rows.h"

namespace pyfastnn::engine {

// W [out, in] in either layout: kRows, W(n, k) at data[n * ld + k], or kColumns, at
// data[k * ld + n].
template <class S>
struct SparseLayer {
  Operand<S> weight;
  const S* bias;  // [out] or null
  int64_t in, out;
  bool relu;
};

// Y = relu(X W^T + b), or without the ReLU. Weights of absent columns are not read.
template <class S>
void sparse_forward(const SparseLayer<S>& layer, const SparseInput<S>& x, int64_t rows,
                    Matrix<S> output);

// Where the gradients go; null where they are not wanted. That of the weight is dense, in the
// layout of the weight without gaps: absent columns are zero.
template <class S>
struct SparseGradients {
  S* values = nullptr;  // one for each entry
  S* weight = nullptr;
  S* bias = nullptr;
};

// y: what forward gave, read if the layer has a ReLU.
template <class S>
void sparse_backward(const SparseLayer<S>& layer, const SparseInput<S>& x, int64_t rows,
                     Matrix<const S> y, Matrix<const S> dy, const SparseGradients<S>& gradients);

// G[c, n] = dW(n, present[c]), from the batch by columns and dZ [rows, out].
template <class S>
void sparse_wgrad(const SparseRows<S>& columns, Matrix<const S> dz, int64_t out,
                  Matrix<S> gradient);

// The product of the rows with B, divided between threads by rows.
template <class S>
void sparse_multiply(const SparseRows<S>& rows, Matrix<const S> b, int64_t n, const S* bias,
                     bool relu, Matrix<S> c);

// db = sum of dZ over the rows.
template <class S>
void bias_gradient(Matrix<const S> dz, int64_t rows, int64_t out, S* gradient);

}  // namespace pyfastnn::engine
