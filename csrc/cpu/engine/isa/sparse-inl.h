// Sparse matrices times dense ones. Included by each isa/*.cpp (see vector-inl.h for the rules).

// Entries of a row are summed in blocks, each from zero, and the blocks are added in order.
constexpr int64_t kSparseBlock = 256;
constexpr int kSparseVectors = 8;

// Vector v of a tile; the last one may be short.
template <class S, int kVectors, bool kTail>
PYFASTNN_INLINE Vec<Accumulator<S>> load_of_tile(const S* p, int v, int64_t tail) {
  return kTail && v == kVectors - 1 ? load_n(p, tail) : load(p);
}

// kVectors vectors of all rows of C from column j on; by value, so that nothing is loaded again.
template <class S, int kVectors, bool kTail>
void sparse_tile(const SparseProduct<S> args, int64_t j, int64_t tail) {
  using Sum = Accumulator<S>;
  constexpr int64_t kLane = kLanes<Sum>;
  for (int64_t i = 0; i < args.m; ++i) {
    Vec<Sum> total[kVectors] = {};
    const int64_t stop = args.begin[i + 1];
    for (int64_t first = args.begin[i]; first < stop; first += kSparseBlock) {
      const int64_t end = stop - first < kSparseBlock ? stop : first + kSparseBlock;
      Vec<Sum> sums[kVectors] = {};
      for (int64_t e = first; e < end; ++e) {
        const Vec<Sum> value = broadcast<Sum>(args.values[e]);
        const S* row = args.b + args.index[e] * args.ldb + j;
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v)
          sums[v] = fma(sums[v], value, load_of_tile<S, kVectors, kTail>(row + v * kLane, v, tail));
      }
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) total[v] = total[v] + sums[v];
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = j + v * kLane;
      if (args.bias != nullptr)
        total[v] = total[v] + load_of_tile<S, kVectors, kTail>(args.bias + at, v, tail);
      if (args.relu) total[v] = total[v] <= 0 ? Vec<Sum>{} : total[v];
      S* c = args.c + i * args.ldc + at;
      if (kTail && v == kVectors - 1) {
        store_n(c, total[v], tail);
      } else {
        store(c, total[v]);
      }
    }
  }
}

// `vectors` of them, the last with `tail` elements.
template <class S, int kVectors = kSparseVectors>
void sparse_columns(const SparseProduct<S>& args, int64_t j, int64_t vectors, int64_t tail) {
  if (vectors == kVectors) {
    if (tail == kLanes<Accumulator<S>>) {
      sparse_tile<S, kVectors, false>(args, j, tail);
    } else {
      sparse_tile<S, kVectors, true>(args, j, tail);
    }
  } else if constexpr (kVectors > 1) {
    sparse_columns<S, kVectors - 1>(args, j, vectors, tail);
  }
}

template <class S>
void sparse_product(const SparseProduct<S>& args) {
  constexpr int64_t kLane = kLanes<Accumulator<S>>;
  for (int64_t j = 0; j < args.n; j += kSparseVectors * kLane) {
    const int64_t left = args.n - j;
    const int64_t vectors =
        left >= kSparseVectors * kLane ? kSparseVectors : (left + kLane - 1) / kLane;
    const int64_t tail = left - (vectors - 1) * kLane;
    sparse_columns<S>(args, j, vectors, tail < kLane ? tail : kLane);
  }
}

template <class S>
void sparse_dots(const SparseDots<S>& shared) {
  using Sum = Accumulator<S>;
  const SparseDots<S> args = shared;
  constexpr int64_t kLane = kLanes<Sum>;
  for (int64_t i = 0; i < args.m; ++i) {
    for (int64_t e = args.begin[i]; e < args.begin[i + 1]; ++e) {
      const S* a = args.a + i * args.lda;
      const S* b = args.b + args.index[e] * args.ldb;
      Vec<Sum> sums{};
      for (int64_t j = 0; j < args.n; j += kLane)
        sums = fma(sums, load_up_to(a + j, args.n - j), load_up_to(b + j, args.n - j));
      Sum dot = 0;
      for (int q = 0; q < kLane; ++q) dot += sums[q];
      args.dots[e] = dot;
    }
  }
}
