// The micro-kernels and the choice among them. Included by each isa/*.cpp (see vector-inl.h for
// the rules). From outside it needs kMaxRows[NV]: rows of the register tile for NV vectors of B, so
// that MR * NV accumulators, NV vectors of B and one broadcast fit the register file.

// How operands of storage type S are multiplied: in units of this type.
template <class S>
struct Format {  // 16-bit types without an instruction of their own: converted to float while
                 // packing
  using Unit = float;
  static constexpr int kPerUnit = 1;
  static constexpr bool kInPlace = false;
};
template <>
struct Format<float> {
  using Unit = float;
  static constexpr int kPerUnit = 1;
  static constexpr bool kInPlace = true;
};
template <>
struct Format<double> {
  using Unit = double;
  static constexpr int kPerUnit = 1;
  static constexpr bool kInPlace = true;
};
#ifdef PYFASTNN_BF16_DOT
template <>
struct Format<BFloat16> {
  using Unit = uint32_t;  // two neighbours along k
  static constexpr int kPerUnit = 2;
  static constexpr bool kInPlace = false;
};
#endif
template <class S>
using UnitOf = typename Format<S>::Unit;

template <class Unit>
struct SumOf {
  using type = Unit;
};
template <>
struct SumOf<uint32_t> {
  using type = float;
};

// tile[m][n] = sum over p ascending of A(m, p) B(p, n), from zero. tile: [MR][NV * lanes], aligned.
// The unroll pragmas keep `sums` in registers: without them the array lives in memory (100 instead
// of 237 GFLOP/s).
template <class Unit, int NV, int MR, Layout kLayout>
void micro_kernel(int64_t k, const Unit* a, int64_t lda, const Unit* b, int64_t ldb,
                  typename SumOf<Unit>::type* tile) {
  using Sum = typename SumOf<Unit>::type;
  Vec<Sum> sums[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sums[m][v] = Vec<Sum>{};
  }
  // Rows of A in groups of four: x86 addresses base + {0, 1, 2} * lda directly and 3 * lda through
  // one more register.
  const Unit* group[(MR + 3) / 4];
#pragma GCC unroll 4
  for (int g = 0; g < (MR + 3) / 4; ++g)
    group[g] = a + (kLayout == Layout::kRows ? 4 * g * lda : 4 * g);
  for (int64_t p = 0; p < k; ++p) {
    Vec<Unit> row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = load_vector<Unit>(b + v * kLanes<Unit>);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const int64_t offset = kLayout == Layout::kRows ? (m % 4) * lda : m % 4;
      const Vec<Unit> value = broadcast<Unit>(group[m / 4][offset]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sums[m][v] = fma(sums[m][v], value, row[v]);
    }
    b += ldb;
#pragma GCC unroll 4
    for (int g = 0; g < (MR + 3) / 4; ++g) group[g] += kLayout == Layout::kRows ? 1 : lda;
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      *reinterpret_cast<Vec<Sum>*>(tile + (m * NV + v) * kLanes<Sum>) = sums[m][v];
    }
  }
}

// Units in 16 bytes, and their groups in a vector.
template <class Unit>
inline constexpr int kGroup = 16 / static_cast<int>(sizeof(Unit));
inline constexpr int kGroups = kVectorBytes / 16;

// Reads B from the transposed matrix bt, whose rows lie row_bytes apart: x[g][q][j] = B(g * kGroup
// + q, j) = bt[j][...]. Lane i of what is loaded holds row i * kGroup + q, so that a transposition
// inside lanes is enough: half the shuffles of a full one. A whole vector of every row is read at
// once, since rows 4 KB apart share a cache set and a line would be gone before its next quarter is
// wanted.
template <class Unit>
class TransposingReader {
 public:
  TransposingReader(const void* bt, int64_t row_bytes)
      : row_bytes_(row_bytes), three_rows_(3 * row_bytes) {
    for (int i = 0; i < kGroups; ++i)
      lane_[i] = static_cast<const char*>(bt) + i * kGroup<Unit> * row_bytes;
    // Hides how the pointers hang together. GCC would keep one for every row instead, and spill
    // most of them.
    asm("" : "+r"(row_bytes_), "+r"(three_rows_));
    for (int i = 0; i < kGroups; ++i) asm("" : "+r"(lane_[i]));
  }

  // The next `lanes` rows of B.
  PYFASTNN_INLINE void next(Vec<Unit> (&x)[kGroups][kGroup<Unit>]) {
    const int64_t offset[4] = {0, row_bytes_, 2 * row_bytes_, three_rows_};
#pragma GCC unroll 4
    for (int q = 0; q < kGroup<Unit>; ++q) {
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) x[g][q] = load_lanes<Vec<Unit>>(lane_, offset[q] + 16 * g);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kGroups; ++i) lane_[i] += kVectorBytes;
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) transpose_lanes<Unit>(x[g]);
  }

 private:
  int64_t row_bytes_, three_rows_;
  const char* lane_[kGroups];
};

// One vector of columns for few rows of A, where packing B would cost more than the product: B^T
// (rows ldb apart) is transposed in registers on the way. Same order of sums, so the same bits.
template <class Unit, int MR>
void micro_kernel_unpacked(int64_t k, const Unit* a, int64_t lda, const Unit* bt, int64_t ldb,
                           typename SumOf<Unit>::type* tile) {
  using Sum = typename SumOf<Unit>::type;
  Vec<Sum> sums[MR];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) sums[m] = Vec<Sum>{};
  TransposingReader<Unit> reader(bt, ldb * static_cast<int64_t>(sizeof(Unit)));
  int64_t p = 0;
  for (; p + kLanes<Unit> <= k; p += kLanes<Unit>) {
    Vec<Unit> x[kGroups][kGroup<Unit>];
    reader.next(x);
#pragma GCC unroll 16
    for (int q = 0; q < kLanes<Unit>; ++q) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        sums[m] = fma(sums[m], broadcast<Unit>(a[m * lda + p + q]),
                      x[q / kGroup<Unit>][q % kGroup<Unit>]);
      }
    }
  }
  for (; p < k; ++p) {
    Vec<Unit> column{};
    for (int j = 0; j < kLanes<Unit>; ++j) column[j] = bt[j * ldb + p];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) sums[m] = fma(sums[m], broadcast<Unit>(a[m * lda + p]), column);
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) *reinterpret_cast<Vec<Sum>*>(tile + m * kLanes<Sum>) = sums[m];
}

template <class Unit>
using MicroKernel = void (*)(int64_t, const Unit*, int64_t, const Unit*, int64_t,
                             typename SumOf<Unit>::type*);

template <class Unit, int NV, int MR = kMaxRows[NV]>
MicroKernel<Unit> select_rows(int rows, Layout a_layout) {
  if constexpr (MR > 1) {
    if (rows < MR) return select_rows<Unit, NV, MR - 1>(rows, a_layout);
  }
  return a_layout == Layout::kRows ? micro_kernel<Unit, NV, MR, Layout::kRows>
                                   : micro_kernel<Unit, NV, MR, Layout::kColumns>;
}

template <class Unit, int MR = kMaxRowsUnpacked>
MicroKernel<Unit> select_unpacked(int rows) {
  if constexpr (MR > 1) {
    if (rows < MR) return select_unpacked<Unit, MR - 1>(rows);
  }
  return micro_kernel_unpacked<Unit, MR>;
}

template <class Unit>
MicroKernel<Unit> select_micro_kernel(int rows, int vectors, Layout a_layout, Layout b_layout) {
  if constexpr (!__is_same(Unit, uint32_t)) {
    if (b_layout == Layout::kColumns) return select_unpacked<Unit>(rows);
  }
  switch (vectors) {
    case 1:
      return select_rows<Unit, 1>(rows, a_layout);
    case 2:
      return select_rows<Unit, 2>(rows, a_layout);
    case 3:
      return select_rows<Unit, 3>(rows, a_layout);
    default:
      return select_rows<Unit, 4>(rows, a_layout);
  }
}
