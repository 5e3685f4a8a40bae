// Where operands are zero: which units of k a register tile may leave out. Included by each
// isa/*.cpp (see vector-inl.h for the rules). From outside it needs has_bits(v): whether any bit of
// a vector is set.

// The bits of units, and those of them that are not a sign: +0 and -0 are zero, NaN is not.
template <class Unit>
struct BitsOf {
  using type = uint32_t;
  static constexpr uint32_t kMagnitude = 0x7fffffffu;
};
template <>
struct BitsOf<double> {
  using type = uint64_t;
  static constexpr uint64_t kMagnitude = 0x7fffffffffffffffu;
};
template <>
struct BitsOf<uint32_t> {  // two bfloat16 numbers
  using type = uint32_t;
  static constexpr uint32_t kMagnitude = 0x7fff7fffu;
};

template <class S>
PYFASTNN_INLINE int chains_of(const PanelArgs<S>& panel) {
  return panel.in_chains ? kGroup<UnitOf<S>> : 1;
}

// The units of k in which a tile of A that lies by rows is not all zero.
template <class Unit>
int64_t list_of_rows(const Unit* a, int64_t lda, int64_t rows, int64_t k, int chains,
                     int32_t* list) {
  using Bits = typename BitsOf<Unit>::type;
  Bits seen[kMaxUnits];
  int64_t count = 0, p = 0;
  Vec<Bits> zeros{};
  for (; p + kLanes<Unit> <= k; p += kLanes<Unit>) {
    Vec<Bits> bits{};
    for (int64_t i = 0; i < rows; ++i) bits |= load_vector<Bits>(a + i * lda + p);
    bits &= BitsOf<Unit>::kMagnitude;
    zeros -= bits == 0;  // true is -1
    store_vector<Bits>(seen + p, bits);
  }
  for (int i = 0; i < kLanes<Unit>; ++i) count -= static_cast<int64_t>(zeros[i]);
  count += p;
  for (; p < k; ++p) {
    Bits bits = 0;
    for (int64_t i = 0; i < rows; ++i) {
      Bits of_row;
      __builtin_memcpy(&of_row, a + i * lda + p, sizeof(of_row));
      bits |= of_row;
    }
    seen[p] = bits & BitsOf<Unit>::kMagnitude;
    count += seen[p] != 0;
  }
  if (!is_worth_a_list(count, k)) return list_all(k, list);
  int32_t* next = list + kMaxChains;
  for (int q = 0; q < chains; ++q) {
    const int32_t* const first = next;
    for (p = q; p < k; p += chains) {
      *next = static_cast<int32_t>(p);
      next += seen[p] != 0;
    }
    list[q] = static_cast<int32_t>(next - first);
  }
  return count;
}

// n columns of a strip. Units that stand for several elements are packed, with zeros after the
// last.
template <class Unit>
PYFASTNN_INLINE Vec<typename BitsOf<Unit>::type> load_bits(const Unit* p, int64_t n) {
  if constexpr (__is_same(Unit, typename SumOf<Unit>::type)) {
    return reinterpret_cast<Vec<typename BitsOf<Unit>::type>>(load_n(p, n));
  } else {
    return load_vector<typename BitsOf<Unit>::type>(p);
  }
}

// The rows p of a strip [k, width] that are not all zero: of a panel of B, or a tile of A that lies
// by columns.
template <class Unit>
int64_t list_of_strip(const Unit* strip, int64_t ld, int64_t k, int64_t width, int32_t* list) {
  using Bits = typename BitsOf<Unit>::type;
  const int64_t before_last = (width - 1) / kLanes<Unit> * kLanes<Unit>;
  int32_t* units = list + kMaxChains;
  int64_t count = 0;
  for (int64_t p = 0; p < k; ++p) {
    // Rows of a batch are alike: hardly a zero in the first quarter, hardly a zero in all.
    if (p == k / 4 && !is_worth_a_list(count, p)) return list_all(k, list);
    const Unit* row = strip + p * ld;
    Vec<Bits> bits = load_bits(row + before_last, width - before_last);
    for (int64_t j = 0; j < before_last; j += kLanes<Unit>) bits |= load_vector<Bits>(row + j);
    units[count] = static_cast<int32_t>(p);
    count += has_bits(bits & BitsOf<Unit>::kMagnitude);
  }
  list[0] = static_cast<int32_t>(count);
  return count;
}

template <class S>
int64_t list_a(const PanelArgs<S>& panel, int32_t* lists) {
  using Unit = UnitOf<S>;
  const RowTiles tiles(panel.m, panel.tile_rows);
  const bool by_rows = panel.a_layout == Layout::kRows;
  const Unit* a = static_cast<const Unit*>(panel.a);
  int64_t total = 0;
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int64_t rows = tiles.rows(t);
    int32_t* list = lists + t * panel.list_step;
    total += by_rows ? list_of_rows(a, panel.lda, rows, panel.k, chains_of(panel), list)
                     : list_of_strip(a, panel.lda, panel.k, rows, list);
    if (t == tiles.count / 4 && !is_worth_a_list(total, (t + 1) * panel.k))
      return tiles.count * panel.k;
    a += panel.a_tile != 0 ? panel.a_tile : rows * (by_rows ? panel.lda : 1);
  }
  return total;
}

template <class S>
int64_t list_b(const PanelArgs<S>& panel, int32_t* list) {
  return list_of_strip(static_cast<const UnitOf<S>*>(panel.b), panel.ldb, panel.k, panel.n, list);
}

// Whether no element of [rows, n] is infinite or NaN.
template <class S>
bool is_finite(const S* p, int64_t ld, int64_t rows, int64_t n) {
  using Sum = Accumulator<S>;
  constexpr int64_t kLane = kLanes<Sum>;
  Vec<Sum> sums[4] = {};  // stay 0: x * 0 is NaN where x is not finite
  for (int64_t i = 0; i < rows; ++i) {
    const S* row = p + i * ld;
    int64_t j = 0;
    for (; j + 4 * kLane <= n; j += 4 * kLane) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sums[v] = fma(sums[v], load(row + j + v * kLane), Vec<Sum>{});
    }
    for (; j < n; j += kLane) sums[0] = fma(sums[0], load_up_to(row + j, n - j), Vec<Sum>{});
  }
  const Vec<Sum> sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return !has_bits(reinterpret_cast<Vec<typename BitsOf<Sum>::type>>(sum) &
                   BitsOf<Sum>::kMagnitude);
}
