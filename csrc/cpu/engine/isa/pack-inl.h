// Packing of operands into units, element-wise helpers, and the table of one storage type. Included
// by each isa/*.cpp last (see vector-inl.h for the rules).

// Up to `lanes` units from `elements` neighbouring elements; what is missing reads as zero.
template <class S>
PYFASTNN_INLINE Vec<UnitOf<S>> load_units(const S* p, int64_t elements) {
  if constexpr (Format<S>::kPerUnit == 1) {
    return load_up_to(p, elements);
  } else {
    constexpr int kElements = kLanes<UnitOf<S>> * Format<S>::kPerUnit;
    if (elements >= kElements) return load_vector<UnitOf<S>>(p);
    S buffer[kElements] = {};
    for (int64_t i = 0; i < elements; ++i) buffer[i] = p[i];
    return load_vector<UnitOf<S>>(buffer);
  }
}

template <class S>
int64_t units(int64_t k) {
  return (k + Format<S>::kPerUnit - 1) / Format<S>::kPerUnit;
}

// `lanes` rows of src, row_bytes apart, `steps` units each -> dst[steps][width].
template <class Unit>
PYFASTNN_INLINE void transpose_rows(const void* src, int64_t row_bytes, int64_t steps, Unit* dst,
                                    int64_t width) {
  constexpr int kGroups = kVectorBytes / 16;
  LaneReader<Unit, kVectorBytes> reader(src, row_bytes);
  for (int64_t p = 0; p < steps; p += kLanes<Unit>) {
    // x[g][q] becomes row g * kGroup + q of the result. Lane i is loaded with row i * kGroup + q,
    // so that a transposition inside lanes is enough: half the shuffles of a full one.
    Vec<Unit> x[kGroups][kGroup<Unit>];
#pragma GCC unroll 4
    for (int q = 0; q < kGroup<Unit>; ++q) {
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) x[g][q] = reader.load(q, g);
    }
    reader.advance(kVectorBytes);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) transpose_lanes<Unit, kVectorBytes>(x[g]);
#pragma GCC unroll 16
    for (int q = 0; q < kLanes<Unit>; ++q) {
      if (p + q < steps)
        store_vector<Unit>(dst + (p + q) * width, x[q / kGroup<Unit>][q % kGroup<Unit>]);
    }
  }
}

// Whole tiles of units are read where they lie; edges, and types that are converted, go through a
// small buffer.
template <class S>
void pack_transposed(const S* src, int64_t ld, int64_t k, int64_t n, void* dst, int64_t width) {
  using Unit = UnitOf<S>;
  constexpr int kRows = kLanes<Unit>;
  constexpr int64_t kSteps = 64;
  alignas(kVectorBytes) Unit buffer[kRows * kSteps];
  for (int64_t j = 0; j < width; j += kRows) {
    for (int64_t p = 0; p < units<S>(k); p += kSteps) {
      const int64_t steps = units<S>(k) - p < kSteps ? units<S>(k) - p : kSteps;
      const int64_t elements = k - p * Format<S>::kPerUnit;
      const S* corner = src + j * ld + p * Format<S>::kPerUnit;
      Unit* out = static_cast<Unit*>(dst) + p * width + j;
      if (kIsSameBits<S> && j + kRows <= n && steps % kRows == 0 &&
          elements >= steps * Format<S>::kPerUnit) {
        transpose_rows<Unit>(corner, ld * static_cast<int64_t>(sizeof(S)), steps, out, width);
        continue;
      }
      for (int i = 0; i < kRows; ++i) {
        for (int64_t q = 0; q < steps; q += kLanes<Unit>) {
          const bool inside = j + i < n;
          store_vector<Unit>(buffer + i * kSteps + q,
                             inside ? load_units<S>(corner + i * ld + q * Format<S>::kPerUnit,
                                                    elements - q * Format<S>::kPerUnit)
                                    : Vec<Unit>{});
        }
      }
      transpose_rows<Unit>(buffer, kSteps * static_cast<int64_t>(sizeof(Unit)), steps, out, width);
    }
  }
}

// Row p of the packed form: one row of src, or two rows interleaved where a unit holds two elements
// of k.
template <class S>
void pack_plain(const S* src, int64_t ld, int64_t k, int64_t n, void* dst, int64_t width) {
  using Unit = UnitOf<S>;
  Unit* out = static_cast<Unit*>(dst);
  for (int64_t p = 0; p < units<S>(k); ++p) {
    const S* row = src + p * Format<S>::kPerUnit * ld;
    for (int64_t j = 0; j < width; j += kLanes<Unit>) {
      Vec<Unit> v{};
      if (j < n) {
        if constexpr (Format<S>::kPerUnit == 1) {
          v = load_up_to(row + j, n - j);
        } else {
          const bool has_second = Format<S>::kPerUnit * p + 1 < k;
          const U16 low = load_u16_up_to(row + j, n - j);
          const U16 high = has_second ? load_u16_up_to(row + ld + j, n - j) : U16{};
          v = __builtin_convertvector(low, U32) | (__builtin_convertvector(high, U32) << 16);
        }
      }
      store_vector<Unit>(out + p * width + j, v);
    }
  }
}

template <class S>
void pack_rows(const S* src, int64_t ld, int64_t m, int64_t k, void* dst, int64_t ld_dst) {
  using Unit = UnitOf<S>;
  Unit* out = static_cast<Unit*>(dst);
  const int64_t count = units<S>(k);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t p = 0; p < count; p += kLanes<Unit>) {
      const Vec<Unit> v =
          load_units<S>(src + i * ld + p * Format<S>::kPerUnit, k - p * Format<S>::kPerUnit);
      Unit* to = out + i * ld_dst + p;
      if (count - p >= kLanes<Unit>) {
        store_vector<Unit>(to, v);
      } else {
        for (int64_t q = 0; q < count - p; ++q) to[q] = v[q];
      }
    }
  }
}

template <class S>
void mask_rows(const S* src, int64_t ld_src, const S* y, int64_t ld_y, int64_t m, int64_t n, S* dst,
               int64_t ld_dst) {
  using Sum = Accumulator<S>;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; j += kLanes<Sum>) {
      const Vec<Sum> value = load_up_to(src + i * ld_src + j, n - j);
      const Vec<Sum> output = load_up_to(y + i * ld_y + j, n - j);
      store_up_to(dst + i * ld_dst + j, output <= 0 ? Vec<Sum>{} : value, n - j);
    }
  }
}

// Groups of 16 rows are summed first: one chain over all rows of a block has 1.6 times the error of
// torch's sum.
constexpr int64_t kSumGroup = 16;

template <class S>
void column_sums(const S* src, int64_t ld, int64_t m, int64_t n, Accumulator<S>* sums) {
  using Sum = Accumulator<S>;
  for (int64_t j = 0; j < n; j += kLanes<Sum>) {
    Vec<Sum> total{};
    for (int64_t i = 0; i < m; i += kSumGroup) {
      Vec<Sum> group{};
      const int64_t end = m - i < kSumGroup ? m : i + kSumGroup;
      for (int64_t p = i; p < end; ++p) group = group + load_up_to(src + p * ld + j, n - j);
      total = total + group;
    }
    store_up_to(sums + j, total, n - j);
  }
}

template <class S>
void round_to_storage(const Accumulator<S>* src, int64_t n, S* dst) {
  for (int64_t j = 0; j < n; j += kLanes<Accumulator<S>>) {
    store_up_to(dst + j, load_up_to(src + j, n - j), n - j);
  }
}

template <class S>
constexpr auto short_kernel() -> void (*)(const PanelArgs<S>&) {
  if constexpr (__is_same(S, Accumulator<S>)) return gemm_short<S>;
  return nullptr;
}

template <class S>
constexpr Kernels<S> make_kernels() {
  return {kLanes<Accumulator<S>>,
          {0, kMaxRows[1], kMaxRows[2], kMaxRows[3], kMaxRows[4], kMaxRows[5], kMaxRows[6],
           kMaxRows[7], kMaxRows[8]},
          kMaxBatchTransposed,
          Format<S>::kPerUnit,
          static_cast<int>(sizeof(UnitOf<S>)),
          kIsSameBits<S>,
          gemm_panel<S>,
          short_kernel<S>(),
          pack_transposed<S>,
          pack_plain<S>,
          pack_rows<S>,
          list_a<S>,
          list_b<S>,
          is_finite<S>,
          mask_rows<S>,
          column_sums<S>,
          round_to_storage<S>,
          sparse_product<S>,
          sparse_dots<S>};
}
