// The three products of a layer as arguments of gemm(): fprop, dgrad and wgrad.
#pragma once

#include "gemm.h"
#include "network.h"

namespace pyfastnn::engine {

inline constexpr Order kFpropOrder = Order::kInterleaved;

// Y = relu(X W^T + b), or without the ReLU.
template <class S>
Gemm<S> fprop(const Layer<S>& layer, int64_t rows, Matrix<const S> input, Matrix<S> output) {
  Gemm<S> args{};
  args.m = rows;
  args.n = layer.out;
  args.k = layer.in;
  args.a = {input.data, input.ld, Layout::kRows};
  args.b = transposed(layer.weight);
  args.order = kFpropOrder;
  args.c = output.data;
  args.ldc = output.ld;
  args.bias = layer.bias;
  args.relu = layer.relu;
  return args;
}

// dX = dZ W, and where X is the output of a ReLU, `mask`: dX * (not X <= 0).
template <class S>
Gemm<S> dgrad(const Layer<S>& layer, int64_t rows, Matrix<const S> dz, Matrix<S> dx,
              Matrix<const S> mask) {
  Gemm<S> args{};
  args.m = rows;
  args.n = layer.in;
  args.k = layer.out;
  args.a = {dz.data, dz.ld, Layout::kRows};
  args.b = layer.weight;
  args.c = dx.data;
  args.ldc = dx.ld;
  args.mask = mask.data;
  args.ld_mask = mask.ld;
  return args;
}

// dW[m, n] = left^T right, summed over the rows: dZ^T X, or X^T dZ for a W that lies by columns;
// into dw, rows of which lie ld_dw elements apart.
template <class S>
Gemm<S> wgrad(int64_t m, int64_t n, int64_t rows, Matrix<const S> left, Matrix<const S> right,
              S* dw, int64_t ld_dw) {
  Gemm<S> args{};
  args.m = m;
  args.n = n;
  args.k = rows;
  args.a = {left.data, left.ld, Layout::kColumns};
  args.b = {right.data, right.ld, Layout::kRows};
  args.c = dw;
  args.ldc = ld_dw;
  return args;
}

template <class S>
Matrix<S> rows_from(Matrix<S> matrix, int64_t row) {
  return {matrix.data == nullptr ? nullptr : matrix.data + row * matrix.ld, matrix.ld};
}

// The blocks in which wgrad and bgrad sum over rows.
template <class S>
KBlocks row_blocks(const Kernels<S>& kernels, int64_t rows) {
  return KBlocks(rows, kernels.k_per_unit, Order::kAscending);
}

// db = sum of dZ over the rows: one sum for each block of wgrad's k loop, at the end (`finish`) the
// sum of those. One chain over all blocks has 1.9 times the error of torch's sum at 65536 rows.
// sums: [blocks of all rows][width].
template <class S>
void column_sums_by_blocks(const Kernels<S>& kernels, Matrix<const S> dz, int64_t rows,
                           Range columns, Accumulator<S>* sums, int64_t width) {
  const KBlocks blocks = row_blocks(kernels, rows);
  for (int64_t p = 0; p < blocks.count; ++p) {
    const Range block = blocks.block(p);
    kernels.column_sums(dz.data + block.begin * dz.ld + columns.begin, dz.ld, block.size(),
                        columns.size(), sums + p * width + columns.begin);
  }
}

}  // namespace pyfastnn::engine
