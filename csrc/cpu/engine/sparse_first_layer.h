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
  SparseFirstLayer(const TrainedLayer<P>& layer, const Batch<P>& batch, AbsentColumns absent,
                   Scratch& scratch)
      : layer_(layer),
        scratch_(scratch),
        updates_all_(layer.weight.is_updated && absent == AbsentColumns::kExact &&
                     zero_gradients_count()),
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
    if (layer_.by_columns && !keeps_no_gradient())
      present_ = find_present(rows_, layer_.in, scratch_);
  }

  // Makes the gradients of weight and bias. dz stays until the update.
  void backward(Matrix<const P> dz) {
    if (layer_.weight.needs_gradient) {
      dz_ = dz;
      const int64_t count = keeps_no_gradient() ? layer_.in : present_.count;
      columns_ = by_columns(rows_, count, scratch_);
      if (!keeps_no_gradient()) {
        const int64_t ld = scratch_ld<P>(layer_.out);
        gradient_ = {scratch_.take_array<P>(count * ld), ld};
        sparse_wgrad(columns_, dz, layer_.out, gradient_);
      }
    }
    if (layer_.bias.needs_gradient) {
      bias_gradient_ = scratch_.take_array<P>(layer_.out);
      bias_gradient(dz, rows_.rows, layer_.out, bias_gradient_);
    }
  }

  // Of both gradients.
  double squared_norm() const {
    const auto sum_of_squares = active_training_kernels<P>().sum_of_squares;
    const int64_t out = layer_.out;
    double sum = layer_.bias.needs_gradient ? sum_of_squares(bias_gradient_, out) : 0;
    if (!layer_.weight.needs_gradient) return sum;
    if (keeps_no_gradient()) {
      Scratch::Frame frame(scratch_);
      P* block = scratch_.take_array<P>(block_columns() * out);
      for (int64_t c = 0; c < layer_.in; c += block_columns()) {
        const Range columns{c, std::min(c + block_columns(), layer_.in)};
        gradient_of(columns, block);
        sum += sum_of_squares(block, columns.size() * out);
      }
      return sum;
    }
    for (int64_t c = 0; c < present_.count; ++c)
      sum += sum_of_squares(gradient_.data + c * gradient_.ld, out);
    return sum;
  }

  // Returns the sum of the squares of the weights before it, or 0 if it is not wanted.
  double update(double grad_scale, bool wants_squares) {
    if (layer_.bias.is_updated)
      update_block(layer_.bias, 0, 1, layer_.out, 0, {bias_gradient_, 0}, grad_scale);
    if (updates_all_) {
      return layer_.by_columns ? update_all_by_columns(grad_scale, wants_squares)
                               : update_all_by_rows(grad_scale, wants_squares);
    }
    const double squares = wants_squares ? squared_weights<P>({layer_}) : 0;
    if (layer_.weight.is_updated) update_present(grad_scale);
    return squares;
  }

 private:
  // Whether a gradient of zero changes a weight or its state.
  bool zero_gradients_count() const {
    return layer_.weight.state[0] != nullptr || layer_.weight.rule.weight_decay != 0;
  }

  // The gradient of all columns is made block by block, where it is used.
  bool keeps_no_gradient() const { return updates_all_ && layer_.by_columns; }

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

  // Every column, in blocks whose gradient stays in the cache: zero but for the present ones. Of a
  // matrix that lies by columns.
  double update_all_by_columns(double grad_scale, bool wants_squares) const {
    const int64_t in = layer_.in, out = layer_.out, width = block_columns();
    return sum_of_tasks(divide_up(in, width), [&](int64_t task, Scratch& own) {
      const Range columns{task * width, std::min((task + 1) * width, in)};
      P* block = own.take_array<P>(columns.size() * out);
      gradient_of(columns, block);
      return update_part(columns.begin * out, 1, columns.size() * out, {block, 0}, grad_scale,
                         wants_squares);
    });
  }

  // dW[:, columns] as it lies by columns.
  void gradient_of(Range columns, P* block) const {
    active_kernels<P>().sparse_product({columns.size(), layer_.out, columns_.begin + columns.begin,
                                        columns_.index, columns_.values, dz_.data, dz_.ld, block,
                                        layer_.out, nullptr, false});
  }

  int64_t block_columns() const {
    return std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, layer_.out));
  }

  // Many rows at once read a cache line of the gradient once, few make long pieces of memory.
  double update_all_by_rows(double grad_scale, bool wants_squares) const {
    const int64_t in = layer_.in, out = layer_.out;
    const int64_t high = present_.count < in / 16 ? 2 : kRowsAtOnce, wide = kBlockElements / high;
    const int64_t across = divide_up(in, wide), down = divide_up(out, high);
    return sum_of_tasks(across * down, [&](int64_t task, Scratch& own) {
      const int64_t n = task / across * high, j = task % across * wide;
      const Range rows{n, std::min(n + high, out)};
      const Range columns{j, std::min(j + wide, in)};
      const int64_t ld = scratch_ld<P>(columns.size());
      P* block = own.take_array<P>(rows.size() * ld);
      fill_block(as_const(gradient_), rows, columns, present_, block, ld);
      return update_part(n * in + j, rows.size(), columns.size(), {block, ld}, grad_scale,
                         wants_squares);
    });
  }

  // The sum of what body(task, scratch of the thread) returns, in the order of the tasks.
  template <class Body>
  double sum_of_tasks(int64_t count, const Body& body) const {
    double* results = scratch_.take_array<double>(count);
    parallel_tasks(count, threads_for(32 * layer_.in * layer_.out), [&](int64_t task) {
      Scratch& own = Scratch::of_this_thread();
      Scratch::Frame frame(own);
      results[task] = body(task, own);
    });
    double sum = 0;
    for (int64_t task = 0; task < count; ++task) sum += results[task];
    return sum;
  }

  // Rows of n weights from `offset` on; returns their squares before the update.
  double update_part(int64_t offset, int64_t rows, int64_t n, const Gradient<P>& gradient,
                     double grad_scale, bool wants_squares) const {
    double squares = 0;
    update_block(layer_.weight, offset, rows, n, layer_.in, gradient, grad_scale,
                 wants_squares ? &squares : nullptr);
    return squares;
  }

  // Elements of a block: 256 KB.
  static constexpr int64_t kBlockElements = (int64_t{1} << 18) / sizeof(P);

  const TrainedLayer<P>& layer_;
  Scratch& scratch_;
  const bool updates_all_;
  const SparseRows<P> rows_;
  SparseRows<P> columns_;  // the batch by columns: all, or those that are present
  Matrix<const P> dz_;
  Present present_;
  Matrix<P> weight_;    // [present, out], unless W lies by columns
  Matrix<P> gradient_;  // the same
  P* bias_gradient_ = nullptr;
};

}  // namespace pyfastnn::engine
