// Micro-kernels for tiles of few rows: sums in chains (see kernels.h), all of them in registers.
// Included by each isa/*.cpp (see vector-inl.h for the rules).

// Units in 16 bytes.
template <class Unit>
inline constexpr int kGroup = 16 / static_cast<int>(sizeof(Unit));

// ---- a packed B, a block in chains ----
//
// All chains side by side: a tile of few rows does not fill the registers with one of them, and
// would wait for the latency of its sums. B is read in one go.
template <class Unit, int NV, int MR>
struct ChainSums {
  Vec<typename SumOf<Unit>::type> sums[kGroup<Unit>][MR][NV];

  // One unit of chain q.
  PYFASTNN_INLINE void add(int q, const Unit* a, int64_t lda, const Unit* b) {
    Vec<Unit> row[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      row[v] = load_vector<Unit>(b + v * kLanes<Unit>);
      keep_in_register(row[v]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const Vec<Unit> value = broadcast<Unit>(a[m * lda]);
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) sums[q][m][v] = fma(sums[q][m][v], value, row[v]);
    }
  }
};

// tile[m][n] = (chain 0 + chain 1) + ...; A in layout kRows.
template <class Unit, int NV, int MR>
void micro_kernel_chains(int64_t k, const Unit* a, int64_t lda, const Unit* b, int64_t ldb,
                         typename SumOf<Unit>::type* tile) {
  using Sum = typename SumOf<Unit>::type;
  constexpr int kChains = kGroup<Unit>;
  ChainSums<Unit, NV, MR> chains{};
  for (; k >= kChains; k -= kChains) {
#pragma GCC unroll 4
    for (int q = 0; q < kChains; ++q) chains.add(q, a + q, lda, b + q * ldb);
    a += kChains;
    b += kChains * ldb;
  }
#pragma GCC unroll 4
  for (int q = 0; q < kChains - 1; ++q) {
    if (q < k) chains.add(q, a + q, lda, b + q * ldb);
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      Vec<Sum> sum = Vec<Sum>{} + chains.sums[0][m][v];
#pragma GCC unroll 4
      for (int q = 1; q < kChains; ++q) sum = sum + chains.sums[q][m][v];
      *reinterpret_cast<Vec<Sum>*>(tile + (m * NV + v) * kLanes<Sum>) = sum;
    }
  }
}

// Reads B^T, whose rows lie row_bytes apart, 16 bytes of several rows at a time: lane i of
// load(q, g) holds group g of row i * kGroup + q.
template <class Unit, int kBytes>
class LaneReader {
 public:
  LaneReader(const void* bt, int64_t row_bytes)
      : row_bytes_(row_bytes), three_rows_(3 * row_bytes) {
    for (int i = 0; i < kBytes / 16; ++i)
      lane_[i] = static_cast<const char*>(bt) + i * kGroup<Unit> * row_bytes;
    // Hides how the pointers hang together. GCC would keep one for every row instead, and spill
    // most of them.
    asm("" : "+r"(row_bytes_), "+r"(three_rows_));
    for (int i = 0; i < kBytes / 16; ++i) asm("" : "+r"(lane_[i]));
  }

  PYFASTNN_INLINE Vec<Unit, kBytes> load(int q, int g) const {
    const int64_t offset[4] = {0, row_bytes_, 2 * row_bytes_, three_rows_};
    return load_lanes<Vec<Unit, kBytes>>(lane_, offset[q] + 16 * g);
  }

  PYFASTNN_INLINE void advance(int bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < kBytes / 16; ++i) {
      lane_[i] += bytes;
      asm("" : "+r"(lane_[i]));  // keeps GCC from adding all of them in a vector
    }
  }

 private:
  int64_t row_bytes_, three_rows_;
  const char* lane_[kBytes / 16];
};

// ---- a B^T as it lies, where packing it would cost more than the product ----
//
// B^T is read as it lies, 16 bytes of each row at a time. So a vector holds kGroup chains (see
// kernels.h) of one or two columns, and nothing is transposed but the result. Vectors of 32 bytes:
// loads are the limit, and putting four pieces together costs more than it saves (512-16, one row,
// Zen 4: 0.56 us against 0.37). They read 8 rows of B^T at a time, which rows 4 KB apart, sharing
// one 8-way cache set, just allow.
constexpr int kNarrow = kVectorBytes < 32 ? kVectorBytes : 32;

template <class Unit, int MR>
struct TransposedSums {
  using Sum = typename SumOf<Unit>::type;
  static constexpr int kChains = kGroup<Unit>;

  // Lane i of sums[m][v]: the chains of column i * kChains + v.
  Vec<Sum, kNarrow> sums[MR][kChains];

  // Group g of every row.
  PYFASTNN_INLINE void add(const Unit* a, int64_t lda, const LaneReader<Unit, kNarrow>& reader,
                           int g) {
    Vec<Unit, kNarrow> row[kChains];
#pragma GCC unroll 4
    for (int v = 0; v < kChains; ++v) row[v] = reader.load(v, g);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const auto value = load_repeated<Vec<Unit, kNarrow>>(a + m * lda + g * kChains);
#pragma GCC unroll 4
      for (int v = 0; v < kChains; ++v) sums[m][v] = fma(sums[m][v], value, row[v]);
    }
  }

  // The last `rest` units, fewer than a group; the others are zero.
  PYFASTNN_INLINE void add_rest(const Unit* a, int64_t lda, const Unit* bt, int64_t ldb, int rest) {
    Unit value[MR][kChains] = {}, row[kLanes<Unit, kNarrow>] = {};
    for (int m = 0; m < MR; ++m) {
      for (int q = 0; q < rest; ++q) value[m][q] = a[m * lda + q];
    }
#pragma GCC unroll 4
    for (int v = 0; v < kChains; ++v) {
      for (int i = 0; i < kNarrow / 16; ++i) {
        for (int q = 0; q < rest; ++q) row[i * kChains + q] = bt[(i * kChains + v) * ldb + q];
      }
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
        sums[m][v] = fma(sums[m][v], load_repeated<Vec<Unit, kNarrow>>(value[m]),
                         load_vector<Unit, kNarrow>(row));
    }
  }
};

// As many columns as a narrow vector has lanes, one block of k: total[m] (+)= ...
template <class Unit, int MR>
PYFASTNN_INLINE void transposed_block(int64_t k, const Unit* a, int64_t lda, const Unit* bt,
                                      int64_t ldb, bool first,
                                      Vec<typename SumOf<Unit>::type, kNarrow> (&total)[MR]) {
  using Sum = typename SumOf<Unit>::type;
  constexpr int kChains = kGroup<Unit>;
  TransposedSums<Unit, MR> chains{};
  LaneReader<Unit, kNarrow> reader(bt, ldb * static_cast<int64_t>(sizeof(Unit)));
  int64_t p = 0;
  for (; p + 4 * kChains <= k; p += 4 * kChains) {
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) chains.add(a + p, lda, reader, g);
    reader.advance(64);
  }
  for (; p + kChains <= k; p += kChains) {
    chains.add(a + p, lda, reader, 0);
    reader.advance(16);
  }
  if (p < k) chains.add_rest(a + p, lda, bt + p, ldb, static_cast<int>(k - p));
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
    transpose_lanes<Sum, kNarrow>(chains.sums[m]);  // now sums[m][q] has chain q of all columns
    Vec<Sum, kNarrow> sum = Vec<Sum, kNarrow>{} + chains.sums[m][0];
#pragma GCC unroll 4
    for (int q = 1; q < kChains; ++q) sum = sum + chains.sums[m][q];
    total[m] = first ? sum : total[m] + sum;
  }
}

// All blocks of k, so that every row of B^T is read in one go. tile: [MR][n].
template <class Unit, int MR>
void micro_kernel_transposed(int64_t n, int64_t k, int64_t block, const Unit* a, int64_t lda,
                             const Unit* bt, int64_t ldb, typename SumOf<Unit>::type* tile) {
  using Sum = typename SumOf<Unit>::type;
  for (int64_t j = 0; j < n; j += kLanes<Sum, kNarrow>) {
    Vec<Sum, kNarrow> total[MR];
    for (int64_t p = 0; p < k; p += block) {
      transposed_block<Unit, MR>(k - p < block ? k - p : block, a + p, lda, bt + j * ldb + p, ldb,
                                 p == 0, total);
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) *reinterpret_cast<Vec<Sum, kNarrow>*>(tile + m * n + j) = total[m];
  }
}

template <class Unit>
using TransposedKernel = void (*)(int64_t, int64_t, int64_t, const Unit*, int64_t, const Unit*,
                                  int64_t, typename SumOf<Unit>::type*);

template <class Unit, int MR = kMaxRowsTransposed>
TransposedKernel<Unit> select_transposed(int rows) {
  if constexpr (MR > 1) {
    if (rows < MR) return select_transposed<Unit, MR - 1>(rows);
  }
  return micro_kernel_transposed<Unit, MR>;
}

template <class Unit>
using ChainsKernel = void (*)(int64_t, const Unit*, int64_t, const Unit*, int64_t,
                              typename SumOf<Unit>::type*);

// Rows of a tile whose chains fit the registers side by side, NV vectors of B wide.
template <class Unit, int NV>
inline constexpr int kMaxRowsChains = kMaxTileVectors / (kGroup<Unit> * NV);

template <class Unit, int NV, int MR = kMaxRowsChains<Unit, NV>>
ChainsKernel<Unit> select_chains_rows(int rows) {
  if constexpr (MR > 1) {
    if (rows < MR) return select_chains_rows<Unit, NV, MR - 1>(rows);
  }
  return rows > MR ? nullptr : micro_kernel_chains<Unit, NV, MR>;
}

// Null if they do not fit.
template <class Unit>
ChainsKernel<Unit> select_chains(int rows, int vectors) {
  if (vectors > 2) return nullptr;
  return vectors == 1 ? select_chains_rows<Unit, 1>(rows) : select_chains_rows<Unit, 2>(rows);
}
