#include "sparse_rows.h"

#include <algorithm>
#include <type_traits>

namespace pyfastnn::engine {
namespace {

// Where the rows begin one after the other; returns the number of their entries.
template <class I>
int64_t count_entries(const I* begin, const int64_t* order, int64_t rows, int64_t* own_begin) {
  own_begin[0] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = order == nullptr ? i : order[i];
    own_begin[i + 1] = own_begin[i] + (begin[row + 1] - begin[row]);
  }
  return own_begin[rows];
}

template <class S, class I>
SparseRows<S> take(const SparseInput<S>& x, const int64_t* order, int64_t rows, Scratch& scratch) {
  using Sum = Accumulator<S>;
  const I* begin = static_cast<const I*>(x.begin);
  const I* column = static_cast<const I*>(x.column);
  int64_t* own_begin = scratch.take_array<int64_t>(rows + 1);
  SparseRows<S> result{rows, count_entries(begin, order, rows, own_begin), own_begin, nullptr,
                       nullptr};
  result.index = scratch.take_array<int32_t>(result.entries);
  const bool in_place = order == nullptr && std::is_same_v<S, Sum>;
  Sum* values = in_place ? nullptr : scratch.take_array<Sum>(result.entries);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t from = begin[order == nullptr ? i : order[i]];
    const int64_t to = own_begin[i], count = own_begin[i + 1] - to;
    for (int64_t e = 0; e < count; ++e)
      result.index[to + e] = static_cast<int32_t>(column[from + e]);
    if (in_place) continue;
    if constexpr (std::is_same_v<S, Sum>) {
      std::copy_n(x.values + from, count, values + to);
    } else {  // the sum of one row of values is these values, widened
      active_kernels<S>().column_sums(x.values + from, 0, 1, count, values + to);
    }
  }
  result.values = values;
  if constexpr (std::is_same_v<S, Sum>) {
    if (in_place) result.values = x.values + begin[0];
  }
  return result;
}

}  // namespace

template <class S>
SparseRows<S> take_rows(const SparseInput<S>& x, const int64_t* order, int64_t rows,
                        Scratch& scratch) {
  return x.wide ? take<S, int64_t>(x, order, rows, scratch)
                : take<S, int32_t>(x, order, rows, scratch);
}

template <class S>
Present find_present(const SparseRows<S>& rows, int64_t columns, Scratch& scratch) {
  const int64_t words = divide_up(columns, 64);
  uint64_t* bits = scratch.take_array<uint64_t>(words);
  std::fill_n(bits, words, 0);
  for (int64_t e = 0; e < rows.entries; ++e)
    bits[rows.index[e] >> 6] |= uint64_t{1} << (rows.index[e] & 63);
  int32_t* present = scratch.take_array<int32_t>(std::min(columns, rows.entries));
  int32_t* place = scratch.take_array<int32_t>(columns);  // of present columns alone
  int32_t count = 0;
  for (int64_t w = 0; w < words; ++w) {
    for (uint64_t left = bits[w]; left != 0; left &= left - 1) {
      const int32_t column = static_cast<int32_t>(64 * w + __builtin_ctzll(left));
      place[column] = count;
      present[count++] = column;
    }
  }
  for (int64_t e = 0; e < rows.entries; ++e) rows.index[e] = place[rows.index[e]];
  return {count, present};
}

template <class S>
SparseRows<S> by_columns(const SparseRows<S>& rows, int64_t columns, Scratch& scratch) {
  using Sum = Accumulator<S>;
  int64_t* begin = scratch.take_array<int64_t>(columns + 2);
  int32_t* row = scratch.take_array<int32_t>(rows.entries);
  Sum* values = scratch.take_array<Sum>(rows.entries);
  // Counted two places further on: filling moves each beginning to that of the next column.
  std::fill_n(begin, columns + 2, 0);
  for (int64_t e = 0; e < rows.entries; ++e) ++begin[rows.index[e] + 2];
  for (int64_t c = 0; c < columns; ++c) begin[c + 2] += begin[c + 1];
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int64_t e = rows.begin[i]; e < rows.begin[i + 1]; ++e) {
      const int64_t to = begin[rows.index[e] + 1]++;
      row[to] = static_cast<int32_t>(i);
      values[to] = rows.values[e];
    }
  }
  return {columns, rows.entries, begin, row, values};
}

#define PYFASTNN_INSTANTIATE(S)                                                               \
  template SparseRows<S> take_rows(const SparseInput<S>&, const int64_t*, int64_t, Scratch&); \
  template Present find_present(const SparseRows<S>&, int64_t, Scratch&);                     \
  template SparseRows<S> by_columns(const SparseRows<S>&, int64_t, Scratch&);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
