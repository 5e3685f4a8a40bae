#include "sparse.h"

#include <algorithm>

#include "passes.h"
#include "schedule.h"
#include "sparse_columns.h"

namespace pyfastnn::engine {
namespace {

// Work of an entry for one output: it is read, not computed, that takes the time.
constexpr int64_t kEntryWork = 4;
// A block of dW that is made in the L1 cache and written once.
constexpr int64_t kBlockColumns = 512;

int threads_for_entries(int64_t entries, int64_t n) {
  return threads_for(kEntryWork * entries * n);
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

// dW in layout kRows from G, block by block.
template <class S>
void write_rows(Matrix<const S> gradient, const Present& present, int64_t in, int64_t out, S* dw) {
  const int64_t across = divide_up(in, kBlockColumns), down = divide_up(out, kRowsAtOnce);
  parallel_tasks(across * down, threads_for(8 * in * out), [&](int64_t task) {
    const int64_t n = task / across * kRowsAtOnce, j = task % across * kBlockColumns;
    const Range rows{n, std::min(n + kRowsAtOnce, out)};
    fill_block(gradient, rows, {j, std::min(j + kBlockColumns, in)}, present, dw + n * in + j, in);
  });
}

// The same in layout kColumns.
template <class S>
void write_columns(Matrix<const S> gradient, const Present& present, int64_t in, int64_t out,
                   S* dw) {
  const int threads = threads_for(8 * in * out);
  parallel_tasks(threads, threads, [&](int64_t task) {
    const Range columns = part(in, 1, threads, task);
    fill_columns(gradient, out, columns, present, dw + columns.begin * out);
  });
}

template <class S>
void weight_gradient(const SparseLayer<S>& layer, const SparseRows<S>& rows, const Present& present,
                     Matrix<const S> dz, S* dw, Scratch& scratch) {
  const SparseRows<S> columns = by_columns(rows, present.count, scratch);
  const int64_t ld = scratch_ld<S>(layer.out);
  const Matrix<S> gradient{scratch.take_array<S>(present.count * ld), ld};
  sparse_wgrad(columns, dz, layer.out, gradient);
  const auto write = layer.weight.layout == Layout::kRows ? write_rows<S> : write_columns<S>;
  write(as_const(gradient), present, layer.in, layer.out, dw);
}

// b: the rows that the entries point at.
template <class S>
void value_gradients(const SparseLayer<S>& layer, const SparseRows<S>& rows, Matrix<const S> b,
                     Matrix<const S> dz, S* gradient, Scratch& scratch) {
  const Kernels<S>& kernels = active_kernels<S>();
  auto* dots = scratch.take_array<Accumulator<S>>(rows.entries);
  const int threads = threads_for_entries(rows.entries, layer.out);
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
  const int threads = threads_for_entries(rows.entries, n);
  const int64_t tasks = threads == 1 ? 1 : std::min<int64_t>(rows.rows, 4 * threads);
  parallel_tasks(tasks, threads, [&](int64_t task) {
    const Range some = part(rows.rows, 1, tasks, task);
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
  const bool in_place = layer.weight.layout == Layout::kColumns;
  if (gradients.values != nullptr && in_place)
    value_gradients(layer, batch, {layer.weight.data, layer.weight.ld}, dz, gradients.values,
                    scratch);
  const Present present = find_present(batch, layer.in, scratch);
  if (gradients.values != nullptr && !in_place)
    value_gradients(layer, batch, as_const(copy_columns(layer.weight, layer.out, present, scratch)),
                    dz, gradients.values, scratch);
  if (gradients.weight != nullptr)
    weight_gradient(layer, batch, present, dz, gradients.weight, scratch);
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
