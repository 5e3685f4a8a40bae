// The micro-kernels and the choice among them. Included by each isa/*.cpp (see vector-inl.h for
// the rules). From outside it needs kMaxRows[NV]: rows of the register tile for NV vectors of B, so
// that MR * NV accumulators, NV vectors of B and one broadcast fit the register file;
// kMaxTileVectors: the largest MR * NV.

// How operands of storage type S are multiplied: in units of this type.
template <class S>
struct Format {  // 16-bit types without an instruction of their own: converted to float while
                 // packing
  using Unit = float;
  static constexpr int kPerUnit = 1;
};
template <>
struct Format<float> {
  using Unit = float;
  static constexpr int kPerUnit = 1;
};
template <>
struct Format<double> {
  using Unit = double;
  static constexpr int kPerUnit = 1;
};
#ifdef PYFASTNN_BF16_DOT
template <>
struct Format<BFloat16> {
  using Unit = uint32_t;  // two neighbours along k
  static constexpr int kPerUnit = 2;
};
#endif
template <class S>
using UnitOf = typename Format<S>::Unit;

// Whether a unit has the bits of the elements it stands for.
template <class S>
inline constexpr bool kIsSameBits = sizeof(UnitOf<S>) == sizeof(S) * Format<S>::kPerUnit;

template <class Unit>
struct SumOf {
  using type = Unit;
};
template <>
struct SumOf<uint32_t> {
  using type = float;
};

constexpr int kCacheLine = 64;

// tile[m][n] (+)= sum over p ascending of A(m, p) B(p, n), from zero; over k of the p that `list`
// has where kListed. tile: [MR][NV * lanes], aligned. a_step and b_step lead from p to the next.
// Meanwhile what lies b_ahead units beyond B is fetched into the L2 cache. The unroll pragmas keep
// `sums` in registers: without them the array lives in memory (100 instead of 237 GFLOP/s).
template <class Unit, int NV, int MR, Layout kLayout, bool kListed>
void micro_kernel(int64_t k, const Unit* a, int64_t lda, int64_t a_step, const Unit* b,
                  int64_t b_step, int64_t b_ahead, const int32_t* list, bool add,
                  typename SumOf<Unit>::type* tile) {
  using Sum = typename SumOf<Unit>::type;
  Vec<Sum> sums[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sums[m][v] = Vec<Sum>{};
  }
  // Rows of A in groups of four: x86 addresses base + {0, 1, 2} * lda directly and 3 * lda through
  // one more register.
  const Unit* group[(MR + 3) / 4];
#pragma GCC unroll 4
  for (int g = 0; g < (MR + 3) / 4; ++g)
    group[g] = a + (kLayout == Layout::kRows ? 4 * g * lda : 4 * g);
  for (int64_t p = 0; p < k; ++p) {
    const int64_t at = kListed ? list[p] : 0;
    const Unit* b_row = b + at * b_step;
    Vec<Unit> row[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      row[v] = load_vector<Unit>(b_row + v * kLanes<Unit>);
      if (v * kVectorBytes % kCacheLine == 0)
        __builtin_prefetch(b_row + b_ahead + v * kLanes<Unit>, /*write=*/0, /*locality=*/2);
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const int64_t offset = kLayout == Layout::kRows ? (m % 4) * lda : m % 4;
      const Vec<Unit> value = broadcast<Unit>(group[m / 4][offset + at * a_step]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sums[m][v] = fma(sums[m][v], value, row[v]);
    }
    if constexpr (kListed) continue;
    b += b_step;
#pragma GCC unroll 4
    for (int g = 0; g < (MR + 3) / 4; ++g) group[g] += a_step;
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      Vec<Sum>& sum = *reinterpret_cast<Vec<Sum>*>(tile + (m * NV + v) * kLanes<Sum>);
      sum = (add ? sum : Vec<Sum>{}) + sums[m][v];
    }
  }
}

template <class Unit>
using MicroKernel = void (*)(int64_t, const Unit*, int64_t, int64_t, const Unit*, int64_t, int64_t,
                             const int32_t*, bool, typename SumOf<Unit>::type*);

template <class Unit, bool kListed, int NV, int MR = kMaxRows[NV]>
MicroKernel<Unit> select_rows(int rows, Layout a_layout) {
  if constexpr (MR > 1) {
    if (rows < MR) return select_rows<Unit, kListed, NV, MR - 1>(rows, a_layout);
  }
  return a_layout == Layout::kRows ? micro_kernel<Unit, NV, MR, Layout::kRows, kListed>
                                   : micro_kernel<Unit, NV, MR, Layout::kColumns, kListed>;
}

template <class Unit, bool kListed = false, int NV = kListed ? kPanelVectors : kMaxPanelVectors>
MicroKernel<Unit> select_micro_kernel(int rows, int vectors, Layout a_layout) {
  if constexpr (NV > 1) {
    if (vectors < NV) return select_micro_kernel<Unit, kListed, NV - 1>(rows, vectors, a_layout);
  }
  return select_rows<Unit, kListed, NV>(rows, a_layout);
}
