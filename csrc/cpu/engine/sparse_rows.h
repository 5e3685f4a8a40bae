// Rows of a sparse matrix as the kernels read them, and the same by columns.
#pragma once

#include "network.h"
#include "scratch.h"

namespace pyfastnn::engine {

// A sparse matrix by rows (CSR), as its owner keeps it: row i has the entries begin[i] to
// begin[i + 1]. Columns may come in any order, and more than once: then their values add up.
template <class S>
struct SparseInput {
  int64_t columns = 0;           // fewer than 2^31
  const void* begin = nullptr;   // [rows + 1]
  const void* column = nullptr;  // [entries]
  bool wide = true;              // begin and column are int64_t; else int32_t
  const S* values = nullptr;     // [entries]
  SparseInput from_row(int64_t row) const {
    SparseInput rest = *this;
    rest.begin = static_cast<const char*>(begin) + row * (wide ? 8 : 4);
    return rest;
  }
};

// Entries of some rows one after the other. `index`: the column of an entry, or where it stands
// among the columns that are present.
template <class S>
struct SparseRows {
  int64_t rows = 0, entries = 0;
  const int64_t* begin = nullptr;  // [rows + 1], from 0
  int32_t* index = nullptr;
  const Accumulator<S>* values = nullptr;
};

// The different columns of some rows, ascending.
struct Present {
  int64_t count = 0;
  const int32_t* column = nullptr;
};

// Row i is row order[i] of x; without order, row i.
template <class S>
SparseRows<S> take_rows(const SparseInput<S>& x, const int64_t* order, int64_t rows,
                        Scratch& scratch);

// Finds the columns that are present and lets `rows.index` count among them. Takes time for the
// entries, and for a bit of every column.
template <class S>
Present find_present(const SparseRows<S>& rows, int64_t columns, Scratch& scratch);

// The transposed matrix: row c has the entries of column c (of those present), rows ascending.
template <class S>
SparseRows<S> by_columns(const SparseRows<S>& rows, int64_t columns, Scratch& scratch);

}  // namespace pyfastnn::engine
