#include "sparse.h"

#include <algorithm>

#include "passes.h"
#include "schedule.h"
#include "sparse_columns.h"

namespace pyfastnn::engine {
namespace {

// Work of an entry for one output: it is read, not computed, that takes the time.
constexpr int64_t kEntryWork = 4;
// A block of dW that is made in the L2 cache and written once.
constexpr int64_t kBlockColumns = 256, kBlockRows = 256;

template <class S>
int threads_for_rows(const SparseRows<S>& rows, int64_t n) {
  return threads_for(kEntryWork * (rows.entries + 2 * rows.rows) * n);
}

// Row at which part `index` of `count` begins; all have about as many rows and entries together.
template <class S>
int64_t begin_of_part(const SparseRows<S>& rows, int64_t count, int64_t index) {
  const int64_t before = (rows.rows + rows.entries) * index / count;
  int64_t low = 0, high = rows.rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rows.begin[middle] + middle < before) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class S>
Matrix<const S> masked(const SparseLayer<S>& layer, int64_t rows, Matrix<const S> y,
                       Matrix<const S> dy, Scratch& scratch) {
  if (!layer.relu) return dy;
  const int64_t ld = scratch_ld<S>(layer.out);
  S* dz = scratch.take_array<S>(rows * ld);
  active_kernels<S>().mask_rows(dy.data, dy.ld, y.data, y.ld, rows, layer.out, dz, ld);
  return {dz, ld};
}

// dW in layout kRows, block by block: the gradients of the columns that are present in a block, and
// these transposed. `columns`: the batch by columns.
template <class S>
void weight_gradient_by_rows(const SparseLayer<S>& layer, const SparseRows<S>& columns,
                             const Present& present, Matrix<const S> dz, S* dw) {
  const int64_t in = layer.in, out = layer.out;
  const int64_t across = divide_up(in, kBlockColumns), down = divide_up(out, kBlockRows);
  const int threads = threads_for((8 * in + kEntryWork * columns.entries) * out);
  parallel_tasks(across * down, threads, [&](int64_t task) {
    const int64_t n = task % down * kBlockRows, j = task / down * kBlockColumns;
    const Range rows{n, std::min(n + kBlockRows, out)};
    const Range block{j, std::min(j + kBlockColumns, in)}, some = present_in(present, block);
    Scratch& own = Scratch::of_this_thread();
    Scratch::Frame frame(own);
    const int64_t ld = scratch_ld<S>(rows.size());
    const Matrix<S> gradient{own.take_array<S>(some.size() * ld), ld};
    active_kernels<S>().sparse_product({some.size(), rows.size(), columns.begin + some.begin,
                                        columns.index, columns.values, dz.data + n, dz.ld,
                                        gradient.data, ld, nullptr, false});
    const Present here{some.size(), present.column + some.begin};
    fill_block(as_const(gradient), {0, rows.size()}, block, here, dw + n * in + j, in);
  });
}

// b: the rows that the entries point at.
template <class S>
void value_gradients(const SparseLayer<S>& layer, const SparseRows<S>& rows, Matrix<const S> b,
                     Matrix<const S> dz, S* gradient, Scratch& scratch) {
  const Kernels<S>& kernels = active_kernels<S>();
  auto* dots = scratch.take_array<Accumulator<S>>(rows.entries);
  const int threads = threads_for_rows(rows, layer.out);
  parallel_tasks(threads, threads, [&](int64_t task) {
    const Range some = part(rows.rows, 1, threads, task);
    kernels.sparse_dots({some.size(), layer.out, rows.begin + some.begin, rows.index,
                         dz.data + some.begin * dz.ld, dz.ld, b.data, b.ld, dots});
  });
  kernels.round(dots, rows.entries, gradient);
}

}  // namespace

template <class S>
void sparse_multiply(const SparseRows<S>& rows, Matrix<const S> b, int64_t n, const S* bias,
                     bool relu, Matrix<S> c) {
  const Kernels<S>& kernels = active_kernels<S>();
  const int threads = threads_for_rows(rows, n);
  const int64_t tasks = threads == 1 ? 1 : std::min<int64_t>(rows.rows, 4 * threads);
  parallel_tasks(tasks, threads, [&](int64_t task) {
    const Range some{begin_of_part(rows, tasks, task), begin_of_part(rows, tasks, task + 1)};
    kernels.sparse_product({some.size(), n, rows.begin + some.begin, rows.index, rows.values,
                            b.data, b.ld, c.data + some.begin * c.ld, c.ld, bias, relu});
  });
}

template <class S>
void sparse_forward(const SparseLayer<S>& layer, const SparseInput<S>& x, int64_t rows,
                    Matrix<S> output) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  const SparseRows<S> batch = take_rows(x, nullptr, rows, scratch);
  Matrix<const S> b{layer.weight.data, layer.weight.ld};
  if (layer.weight.layout == Layout::kRows)
    b = as_const(
        copy_columns(layer.weight, layer.out, find_present(batch, layer.in, scratch), scratch));
  sparse_multiply(batch, b, layer.out, layer.bias, layer.relu, output);
}

template <class S>
void sparse_wgrad(const SparseRows<S>& columns, Matrix<const S> dz, int64_t out,
                  Matrix<S> gradient) {
  sparse_multiply<S>(columns, dz, out, nullptr, /*relu=*/false, gradient);
}

template <class S>
void bias_gradient(Matrix<const S> dz, int64_t rows, int64_t out, S* gradient) {
  using Sum = Accumulator<S>;
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  const Kernels<S>& kernels = active_kernels<S>();
  const int64_t blocks = row_blocks(kernels, rows).count;
  Sum* sums = scratch.take_array<Sum>(blocks * out);
  Sum* total = scratch.take_array<Sum>(out);
  column_sums_by_blocks(kernels, dz, rows, {0, out}, sums, out);
  active_kernels<Sum>().column_sums(sums, out, blocks, out, total);
  kernels.round(total, out, gradient);
}

template <class S>
void sparse_backward(const SparseLayer<S>& layer, const SparseInput<S>& x, int64_t rows,
                     Matrix<const S> y, Matrix<const S> dy, const SparseGradients<S>& gradients) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  const Matrix<const S> dz = masked(layer, rows, y, dy, scratch);
  if (gradients.bias != nullptr) bias_gradient(dz, rows, layer.out, gradients.bias);
  if (gradients.values == nullptr && gradients.weight == nullptr) return;
  const SparseRows<S> batch = take_rows(x, nullptr, rows, scratch);
  if (layer.weight.layout == Layout::kColumns) {  // read and written in place
    if (gradients.values != nullptr)
      value_gradients(layer, batch, {layer.weight.data, layer.weight.ld}, dz, gradients.values,
                      scratch);
    if (gradients.weight != nullptr)
      sparse_wgrad(by_columns(batch, layer.in, scratch), dz, layer.out,
                   {gradients.weight, layer.out});
    return;
  }
  const Present present = find_present(batch, layer.in, scratch);
  if (gradients.values != nullptr)
    value_gradients(layer, batch, as_const(copy_columns(layer.weight, layer.out, present, scratch)),
                    dz, gradients.values, scratch);
  if (gradients.weight != nullptr)
    weight_gradient_by_rows(layer, by_columns(batch, present.count, scratch), present, dz,
                            gradients.weight);
}

#define PYFASTNN_INSTANTIATE(S)                                                                   \
  template void sparse_forward(const SparseLayer<S>&, const SparseInput<S>&, int64_t, Matrix<S>); \
  template void sparse_wgrad(const SparseRows<S>&, Matrix<const S>, int64_t, Matrix<S>);          \
  template void bias_gradient(Matrix<const S>, int64_t, int64_t, S*);                             \
  template void sparse_backward(const SparseLayer<S>&, const SparseInput<S>&, int64_t,            \
                                Matrix<const S>, Matrix<const S>, const SparseGradients<S>&);     \
  template void sparse_multiply(const SparseRows<S>&, Matrix<const S>, int64_t, const S*, bool,   \
                                Matrix<S>);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
