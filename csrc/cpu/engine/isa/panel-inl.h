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
void finish_tile(const PanelArgs<S>& args, const Accumulator<S>* tile, int64_t first_row, int rows,
                 int vectors) {
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

template <class T>
PYFASTNN_INLINE void prefetch_rows(const T* corner, int64_t ld, int rows, int64_t columns) {
  for (int m = 0; m < rows; ++m) {
    for (int64_t j = 0; j < columns; j += 64 / static_cast<int>(sizeof(T))) {
      __builtin_prefetch(corner + m * ld + j, /*write=*/1);
    }
  }
}

// What finish_tile will read or write is on its way while the micro-kernel runs (wgrad of
// 1024-1024, batch 1024, on Zen 4: 87 -> 96 GFLOP/s in float32, 158 -> 188 in bfloat16). Pays if
// the micro-kernel runs long enough.
template <class S>
PYFASTNN_INLINE void prefetch_tile(const PanelArgs<S>& args, int64_t row, int rows) {
  if (args.k < 32) return;
  if (args.first) {
    prefetch_rows(args.c + row * args.ldc, args.ldc, rows, args.n);
  } else {
    prefetch_rows(args.partial + row * args.ld_partial, args.ld_partial, rows, args.n);
  }
}

// ir loop: one panel of B times all rows of A. Rows are split evenly (64 = 4 x 11 + 2 x 10, not 5 x
// 12 + 4), because a tile of few rows waits for the latency of its few sums.
template <class S>
void gemm_panel(const PanelArgs<S>& args) {
  using Unit = UnitOf<S>;
  using Sum = Accumulator<S>;
  const int vectors = static_cast<int>((args.n + kLanes<Sum> - 1) / kLanes<Sum>);
  const bool whole = args.n % kLanes<Sum> == 0;
  const int max_rows = args.b_layout == Layout::kRows ? kMaxRows[vectors] : kMaxRowsUnpacked;
  const int64_t tiles = (args.m + max_rows - 1) / max_rows;
  const int small = static_cast<int>(args.m / tiles);
  const int64_t larger = args.m % tiles;  // tiles with one row more
  const MicroKernel<Unit> kernels[2] = {
      select_micro_kernel<Unit>(small, vectors, args.a_layout, args.b_layout),
      select_micro_kernel<Unit>(larger > 0 ? small + 1 : small, vectors, args.a_layout,
                                args.b_layout)};
  const int64_t row_step = args.a_layout == Layout::kRows ? args.lda : 1;
  alignas(kVectorBytes) Sum tile[kMaxTileVectors * kLanes<Sum>];
  int64_t row = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const int rows = small + (t < larger ? 1 : 0);
    prefetch_tile(args, row, rows);
    kernels[t < larger ? 1 : 0](args.k, static_cast<const Unit*>(args.a) + row * row_step, args.lda,
                                static_cast<const Unit*>(args.b), args.ldb, tile);
    (whole ? finish_tile<S, true> : finish_tile<S, false>)(args, tile, row, rows, vectors);
    row += rows;
  }
}
