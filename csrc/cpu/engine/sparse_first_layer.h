// The first layer of a training step on sparse rows.
#pragma once

#include "sparse.h"
#include "sparse_columns.h"
#include "sparse_train.h"
#include "update.h"

namespace pyfastnn::engine {

template <class P>
class SparseFirstLayer {
 public:
  SparseFirstLayer(const TrainedLayer<P>& layer, const Batch<P>& batch, Scratch& scratch)
      : layer_(layer),
        scratch_(scratch),
        rows_(take_rows(batch.sparse, batch.index, batch.rows, scratch)) {}

  // Weights that lie by columns are read in place.
  void forward(Matrix<P> output) {
    Matrix<const P> b{layer_.weight.data, layer_.out};
    if (!layer_.by_columns) {
      present_ = find_present(rows_, layer_.in, scratch_);
      weight_ = copy_columns(lying(layer_.weight.data), layer_.out, present_, scratch_);
      b = as_const(weight_);
    }
    sparse_multiply(rows_, b, layer_.out, layer_.bias.data, layer_.relu, output);
    if (layer_.by_columns) present_ = find_present(rows_, layer_.in, scratch_);
  }

  // Makes the gradients of weight and bias.
  void backward(Matrix<const P> dz) {
    if (layer_.weight.needs_gradient) {
      const int64_t ld = scratch_ld<P>(layer_.out);
      gradient_ = {scratch_.take_array<P>(present_.count * ld), ld};
      sparse_wgrad(by_columns(rows_, present_.count, scratch_), dz, layer_.out, gradient_);
    }
    if (layer_.bias.needs_gradient) {
      bias_gradient_ = scratch_.take_array<P>(layer_.out);
      bias_gradient(dz, rows_.rows, layer_.out, bias_gradient_);
    }
  }

  // Of both gradients.
  double squared_norm() const {
    const auto sum_of_squares = active_training_kernels<P>().sum_of_squares;
    double sum = 0;
    for (int64_t c = 0; layer_.weight.needs_gradient && c < present_.count; ++c)
      sum += sum_of_squares(gradient_.data + c * gradient_.ld, layer_.out);
    return layer_.bias.needs_gradient ? sum + sum_of_squares(bias_gradient_, layer_.out) : sum;
  }

  void update(double grad_scale, AbsentColumns absent) {
    if (layer_.bias.is_updated)
      update_block(layer_.bias, 0, 1, layer_.out, 0, {bias_gradient_, 0}, grad_scale);
    if (!layer_.weight.is_updated) return;
    if (absent == AbsentColumns::kExact && zero_gradients_count()) {
      update_all(grad_scale);
    } else {
      update_present(grad_scale);
    }
  }

 private:
  // Whether a gradient of zero changes a weight or its state.
  bool zero_gradients_count() const {
    return layer_.weight.state[0] != nullptr || layer_.weight.rule.weight_decay != 0;
  }

  // The columns that are present, as rows of small matrices, and back.
  void update_present(double grad_scale) {
    Parameter<P> copy = layer_.weight;
    copy.data = weight_.data != nullptr ? weight_.data : copy_of(copy.data);
    for (P*& state : copy.state) {
      if (state != nullptr) state = copy_of(state);
    }
    const int64_t ld = gradient_.ld;
    const int threads = threads_for(32 * present_.count * layer_.out);
    parallel_tasks(threads, threads, [&](int64_t task) {
      const Range some = part(present_.count, 1, threads, task);
      const int64_t first = some.begin * ld;
      update_block(copy, first, some.size(), layer_.out, ld, {gradient_.data + first, ld},
                   grad_scale);
      put_back(copy.data, some, layer_.weight.data);
      for (int s = 0; s < 2; ++s) {
        if (copy.state[s] != nullptr) put_back(copy.state[s], some, layer_.weight.state[s]);
      }
    });
  }

  // The weight or its state, as a matrix to read.
  Operand<P> lying(const P* data) const {
    if (layer_.by_columns) return {data, layer_.out, Layout::kColumns};
    return {data, layer_.in, Layout::kRows};
  }

  P* copy_of(const P* data) const {
    return copy_columns(lying(data), layer_.out, present_, scratch_).data;
  }

  void put_back(const P* panel, Range some, P* to) const {
    const int64_t out = layer_.out;
    if (!layer_.by_columns) {
      scatter_columns<P>({panel, gradient_.ld}, {0, out}, present_, some, 0, to, layer_.in);
      return;
    }
    for (int64_t c = some.begin; c < some.end; ++c)
      std::copy_n(panel + c * gradient_.ld, out, to + present_.column[c] * out);
  }

  // Every column, in blocks whose gradient stays in the cache: zero but for the present ones.
  void update_all(double grad_scale) const {
    if (layer_.by_columns) {
      update_all_by_columns(grad_scale);
    } else {
      update_all_by_rows(grad_scale);
    }
  }

  void update_all_by_columns(double grad_scale) const {
    const int64_t in = layer_.in, out = layer_.out;
    const int64_t width = std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, out));
    parallel_tasks(divide_up(in, width), threads_for(32 * in * out), [&](int64_t task) {
      const Range columns{task * width, std::min((task + 1) * width, in)};
      Scratch& own = Scratch::of_this_thread();
      Scratch::Frame frame(own);
      P* block = own.take_array<P>(columns.size() * out);
      fill_columns(as_const(gradient_), out, columns, present_, block);
      update_block(layer_.weight, columns.begin * out, 1, columns.size() * out, 0, {block, 0},
                   grad_scale);
    });
  }

  void update_all_by_rows(double grad_scale) const {
    const int64_t in = layer_.in, out = layer_.out;
    const int64_t across = divide_up(in, kBlockColumns), down = divide_up(out, kRowsAtOnce);
    parallel_tasks(across * down, threads_for(32 * in * out), [&](int64_t task) {
      const int64_t n = task / across * kRowsAtOnce, j = task % across * kBlockColumns;
      const Range rows{n, std::min(n + kRowsAtOnce, out)};
      const Range columns{j, std::min(j + kBlockColumns, in)};
      Scratch& own = Scratch::of_this_thread();
      Scratch::Frame frame(own);
      const int64_t ld = scratch_ld<P>(columns.size());
      P* block = own.take_array<P>(rows.size() * ld);
      fill_block(as_const(gradient_), rows, columns, present_, block, ld);
      update_block(layer_.weight, n * in + j, rows.size(), columns.size(), in, {block, ld},
                   grad_scale);
    });
  }

  static constexpr int64_t kBlockColumns = 2048, kBlockElements = 8192;

  const TrainedLayer<P>& layer_;
  Scratch& scratch_;
  const SparseRows<P> rows_;
  Present present_;
  Matrix<P> weight_;    // [present, out], unless W lies by columns
  Matrix<P> gradient_;  // the same
  P* bias_gradient_ = nullptr;
};

}  // namespace pyfastnn::engine
