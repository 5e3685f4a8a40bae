// The loop over the rows of one panel, and the epilogue of a tile. Included by each isa/*.cpp (see
// vector-inl.h for the rules).

// Sums of earlier blocks are added, then bias, ReLU and mask, and the result is rounded once.
// kWhole: n fills all vectors, so no access needs a mask.
template <class S, bool kWhole>
PYFASTNN_INLINE void finish_vector(const PanelArgs<S>& args, Vec<Accumulator<S>> z, int64_t i,
                                   int64_t j) {
  using Sum = Accumulator<S>;
  const int64_t left = kWhole ? kLanes<Sum> : args.n - j;
  if (!args.first) z = load_up_to(args.partial + i * args.ld_partial + j, left) + z;
  if (!args.last) {
    store_up_to(args.partial + i * args.ld_partial + j, z, left);
    return;
  }
  if (args.bias != nullptr) z = z + load_up_to(args.bias + j, left);
  if (args.relu) z = z <= 0 ? Vec<Sum>{} : z;
  if (args.mask != nullptr)
    z = load_up_to(args.mask + i * args.ld_mask + j, left) <= 0 ? Vec<Sum>{} : z;
  store_up_to(args.c + i * args.ldc + j, z, left);
}

template <class S, bool kWhole>
PYFASTNN_INLINE void finish_tile(const PanelArgs<S>& args, const Accumulator<S>* tile,
                                 int64_t first_row, int rows, int vectors) {
  using Sum = Accumulator<S>;
  if (kWhole && args.first && args.last && args.bias == nullptr && !args.relu &&
      args.mask == nullptr) {
    for (int m = 0; m < rows; ++m) {
      for (int v = 0; v < vectors; ++v) {
        store(args.c + (first_row + m) * args.ldc + v * kLanes<Sum>,
              *reinterpret_cast<const Vec<Sum>*>(tile + (m * vectors + v) * kLanes<Sum>));
      }
    }
    return;
  }
  for (int m = 0; m < rows; ++m) {
    for (int v = 0; v < vectors; ++v) {
      finish_vector<S, kWhole>(
          args, *reinterpret_cast<const Vec<Sum>*>(tile + (m * vectors + v) * kLanes<Sum>),
          first_row + m, v * kLanes<Sum>);
    }
  }
}

// kLocality 3: into the L1 cache, to be written; 2: into the L2 cache.
template <int kLocality, class T>
PYFASTNN_INLINE void prefetch_rows(const T* corner, int64_t ld, int rows, int64_t columns) {
  for (int m = 0; m < rows; ++m) {
    for (int64_t j = 0; j < columns; j += kCacheLine / static_cast<int>(sizeof(T))) {
      __builtin_prefetch(corner + m * ld + j, /*write=*/kLocality == 3, kLocality);
    }
  }
}

// What finish_tile will read or write, or the caller after it, is on its way while the micro-kernel
// runs (wgrad of 1024-1024, batch 1024, on Zen 4: 87 -> 96 GFLOP/s in float32, 158 -> 188 in
// bfloat16). Pays if the micro-kernel runs long enough.
template <class S>
PYFASTNN_INLINE void prefetch_tile(const PanelArgs<S>& args, int64_t row, int rows) {
  if (args.ahead != nullptr) {
    const int64_t lines = (args.ahead_bytes + kCacheLine - 1) / kCacheLine;
    const int64_t first = lines * args.ahead_piece / args.ahead_pieces;
    const int64_t end = lines * (args.ahead_piece + 1) / args.ahead_pieces;
    for (int m = 0; m < rows; ++m)
      prefetch_rows<2>(args.ahead[row + m] + first * kCacheLine, 0, 1, (end - first) * kCacheLine);
  }
  if (args.k < 32) return;
  if (args.wanted != nullptr) {
    prefetch_rows<2>(args.wanted + row * args.ld_wanted, args.ld_wanted, rows, args.n);
  } else if (args.first) {
    prefetch_rows<3>(args.c + row * args.ldc, args.ldc, rows, args.n);
  } else {
    prefetch_rows<3>(args.partial + row * args.ld_partial, args.ld_partial, rows, args.n);
  }
}

// One register tile, over all units of k or those in `list`. Chains run side by side where they
// fit, else one after the other, each from zero, then added: the same sums in the same order.
template <class S>
PYFASTNN_INLINE void run_tile(const PanelArgs<S>& args, int rows, int vectors, const UnitOf<S>* a,
                              const int32_t* list, Accumulator<S>* tile) {
  using Unit = UnitOf<S>;
  const Unit* b = static_cast<const Unit*>(args.b);
  const bool by_rows = args.a_layout == Layout::kRows;
  const int64_t a_step = by_rows ? 1 : args.lda;
  if (list != nullptr && *list != kAllUnits) {
    const auto kernel = select_micro_kernel<Unit, /*kListed=*/true>(rows, vectors, args.a_layout);
    const int32_t* units = list + kMaxChains;
    for (int q = 0; q < chains_of(args); units += list[q++])
      kernel(list[q], a, args.lda, a_step, b, args.ldb, args.b_ahead, units, /*add=*/q > 0, tile);
    return;
  }
  if (args.in_chains && by_rows) {
    if (const auto chains = select_chains<Unit>(rows, vectors)) {
      chains(args.k, a, args.lda, b, args.ldb, tile);
      return;
    }
  }
  const auto kernel = select_micro_kernel<Unit>(rows, vectors, args.a_layout);
  if (!args.in_chains) {
    kernel(args.k, a, args.lda, a_step, b, args.ldb, args.b_ahead, nullptr, /*add=*/false, tile);
    return;
  }
  constexpr int kChains = kGroup<Unit>;
  for (int q = 0; q < kChains; ++q) {
    kernel((args.k - q + kChains - 1) / kChains, a + q * a_step, args.lda, kChains * a_step,
           b + q * args.ldb, kChains * args.ldb, args.b_ahead, nullptr, /*add=*/q > 0, tile);
  }
}

// ir loop: one panel of B times all rows of A.
template <class S>
void gemm_panel(const PanelArgs<S>& shared) {
  const PanelArgs<S> args = shared;
  using Unit = UnitOf<S>;
  using Sum = Accumulator<S>;
  const bool transposed = args.b_layout == Layout::kColumns;
  const int vectors = static_cast<int>((args.n + kLanes<Sum> - 1) / kLanes<Sum>);
  const bool whole = args.n % kLanes<Sum> == 0;
  const int64_t max_rows = args.a_tile != 0 || args.lists != nullptr ? args.tile_rows
                           : transposed                              ? kMaxRowsTransposed
                                                                     : kMaxRows[vectors];
  const RowTiles tiles(args.m, max_rows);
  const int64_t row_step = args.a_layout == Layout::kRows ? args.lda : 1;
  alignas(kVectorBytes) Sum tile[kMaxTileVectors * kLanes<Sum>];
  int64_t row = 0;
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int rows = static_cast<int>(tiles.rows(t));
    const Unit* a =
        static_cast<const Unit*>(args.a) + (args.a_tile != 0 ? t * args.a_tile : row * row_step);
    prefetch_tile(args, row, rows);
    if (transposed) {
      select_transposed<Unit>(rows)(args.n, args.k, args.k_block, a, args.lda,
                                    static_cast<const Unit*>(args.b), args.ldb, tile);
    } else {
      const int32_t* list = args.lists == nullptr ? nullptr : args.lists + t * args.list_step;
      run_tile(args, rows, vectors, a, list, tile);
    }
    if (whole) {
      finish_tile<S, true>(args, tile, row, rows, vectors);
    } else {
      finish_tile<S, false>(args, tile, row, rows, vectors);
    }
    row += rows;
  }
}

// C = A B with so few k that what becomes of C is the work: along the rows of C therefore, each
// vector handed to finish.run<kWhole>(row, column, sum) straight from the registers. kWhole: all
// its lanes are in C.
template <class Sum>
struct ShortProduct {
  int64_t m, n, k;
  const Sum* a;  // A(i, p) at a[i * a_row + p * a_step]
  int64_t a_row, a_step;
  const Sum* b;  // B(p, j) at b[p * ldb + j]
  int64_t ldb;
};

template <class Sum, int MR, int NV, bool kWhole, class Finish>
PYFASTNN_INLINE void short_tile(const ShortProduct<Sum>& args, int64_t i, int64_t j,
                                const Finish& finish) {
  const Sum* a = args.a + i * args.a_row;
  const Sum* b = args.b + j;
  Vec<Sum> sums[MR][NV] = {};
  for (int64_t p = 0; p < args.k; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const Sum* from = b + p * args.ldb + v * kLanes<Sum>;
      const Vec<Sum> row = kWhole ? load(from) : load_up_to(from, args.n - j);
#pragma GCC unroll 2
      for (int m = 0; m < MR; ++m)
        sums[m][v] = fma(sums[m][v], broadcast<Sum>(a[m * args.a_row + p * args.a_step]), row);
    }
  }
#pragma GCC unroll 2
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v)
      finish.template run<kWhole>(i + m, j + v * kLanes<Sum>, Vec<Sum>{} + sums[m][v]);
  }
}

template <class Sum, int MR, class Finish>
PYFASTNN_INLINE void short_rows(const ShortProduct<Sum>& args, int64_t i, const Finish& finish) {
  constexpr int64_t kLane = kLanes<Sum>;
  int64_t j = 0;
  for (; j + 4 * kLane <= args.n; j += 4 * kLane) short_tile<Sum, MR, 4, true>(args, i, j, finish);
  for (; j + kLane <= args.n; j += kLane) short_tile<Sum, MR, 1, true>(args, i, j, finish);
  if (j < args.n) short_tile<Sum, MR, 1, false>(args, i, j, finish);
}

// By value: the compiler would have to load every argument again after each write to C.
template <class Sum, class Finish>
void short_product(ShortProduct<Sum> args, Finish finish) {
  int64_t i = 0;
  for (; i + 2 <= args.m; i += 2) short_rows<Sum, 2>(args, i, finish);
  if (i < args.m) short_rows<Sum, 1>(args, i, finish);
}

template <class Sum>
struct StoreSum {
  Sum* c;
  int64_t ldc, n;

  template <bool kWhole>
  PYFASTNN_INLINE void run(int64_t i, int64_t j, Vec<Sum> sum) const {
    store_up_to(c + i * ldc + j, sum, kWhole ? kLanes<Sum> : n - j);
  }
};

template <class S>
struct FinishSum {
  PanelArgs<S> args;

  template <bool kWhole>
  PYFASTNN_INLINE void run(int64_t i, int64_t j, Vec<Accumulator<S>> sum) const {
    finish_vector<S, kWhole>(args, sum, i, j);
  }
};

template <class S>
void gemm_short(const PanelArgs<S>& args) {
  const bool by_rows = args.a_layout == Layout::kRows;
  const ShortProduct<S> product{args.m,
                                args.n,
                                args.k,
                                static_cast<const S*>(args.a),
                                by_rows ? args.lda : 1,
                                by_rows ? 1 : args.lda,
                                static_cast<const S*>(args.b),
                                args.ldb};
  if (args.first && args.last && args.bias == nullptr && !args.relu && args.mask == nullptr) {
    short_product(product, StoreSum<S>{args.c, args.ldc, args.n});
  } else {
    short_product(product, FinishSum<S>{args});
  }
}
