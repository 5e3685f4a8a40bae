// Columns of W[out, in] that are present in a batch, as the rows of a small matrix P[present, out],
// and back.
#pragma once

#include <algorithm>

#include "gemm.h"
#include "schedule.h"
#include "sparse_rows.h"

namespace pyfastnn::engine {

// So many rows of W are read or written side by side: a cache line of P, or a half.
inline constexpr int64_t kRowsAtOnce = 16;

// body(first row of W, rows) for all rows, kRowsAtOnce at a time where `rows` is a constant.
template <class Body>
void for_row_groups(Range out, const Body& body) {
  int64_t n = out.begin;
  for (; n + kRowsAtOnce <= out.end; n += kRowsAtOnce) body(n, kRowsAtOnce);
  if (n < out.end) body(n, out.end - n);
}

// P[c, n] = W[n, present[c]] for the present columns `some`. W as rows of out.
template <class S>
void gather_columns(const S* weight, int64_t ld, Range out, const Present& present, Range some,
                    Matrix<S> panel) {
  for_row_groups(out, [&](int64_t n, int64_t rows) {
    for (int64_t c = some.begin; c < some.end; ++c) {
      const S* from = weight + n * ld + present.column[c];
      S* to = panel.data + c * panel.ld + n;
      for (int64_t q = 0; q < rows; ++q) to[q] = from[q * ld];
    }
  });
}

// W[n, present[c] - shift] = P[c, n].
template <class S>
void scatter_columns(Matrix<const S> panel, Range out, const Present& present, Range some,
                     int64_t shift, S* weight, int64_t ld) {
  for_row_groups(out, [&](int64_t n, int64_t rows) {
    for (int64_t c = some.begin; c < some.end; ++c) {
      const S* from = panel.data + c * panel.ld + n;
      S* to = weight + (n - out.begin) * ld + present.column[c] - shift;
      for (int64_t q = 0; q < rows; ++q) to[q * ld] = from[q];
    }
  });
}

// The present columns that lie in `columns`, as a range of `present`.
inline Range present_in(const Present& present, Range columns) {
  const int32_t *first = present.column, *last = present.column + present.count;
  return {std::lower_bound(first, last, columns.begin) - first,
          std::lower_bound(first, last, columns.end) - first};
}

// block[n, j] = G[c, n] where columns.begin + j is present[c], else 0, for the rows `out`.
template <class S>
void fill_block(Matrix<const S> gradient, Range out, Range columns, const Present& present,
                S* block, int64_t ld) {
  const Range some = present_in(present, columns);
  for_row_groups({0, out.size()}, [&](int64_t n, int64_t rows) {
    S* to = block + n * ld;
    for (int64_t i = 0; i < rows; ++i) std::fill_n(to + i * ld, columns.size(), S{});
    const Range group{out.begin + n, out.begin + n + rows};
    scatter_columns(gradient, group, present, some, columns.begin, to, ld);
  });
}

// A copy of all present columns of W, which lies by rows or by columns without gaps.
template <class S>
Matrix<S> copy_columns(const Operand<S>& weight, int64_t out, const Present& present,
                       Scratch& scratch) {
  const int64_t ld_panel = scratch_ld<S>(out);
  const Matrix<S> panel{scratch.take_array<S>(present.count * ld_panel), ld_panel};
  const int threads = threads_for(24 * present.count * out);
  parallel_tasks(threads, threads, [&](int64_t task) {
    const Range some = part(present.count, 1, threads, task);
    if (weight.layout == Layout::kRows) {
      gather_columns(weight.data, weight.ld, {0, out}, present, some, panel);
      return;
    }
    for (int64_t c = some.begin; c < some.end; ++c)
      std::copy_n(weight.data + present.column[c] * weight.ld, out, panel.data + c * panel.ld);
  });
  return panel;
}

}  // namespace pyfastnn::engine
