// What both AVX-512 files share: vectors of 64 bytes, tails by mask. See vector-inl.h for the
// rules.

constexpr int kVectorBytes = 64;
// 24 sums hide the latency of two FMA a cycle (4 x 2) three times over.
constexpr int kMaxRows[] = {0, 14, 12, 8, 6, 4, 4, 3, 3};
constexpr int kMaxTileVectors = 24;
constexpr int kMaxRowsTransposed = 6;
constexpr int kMaxBatchTransposed = 12;

PYFASTNN_INLINE __m512 fma(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
PYFASTNN_INLINE __m512d fma(__m512d sum, __m512d a, __m512d b) {
  return _mm512_fmadd_pd(a, b, sum);
}
PYFASTNN_INLINE __m256 fma(__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); }
PYFASTNN_INLINE __m256d fma(__m256d sum, __m256d a, __m256d b) {
  return _mm256_fmadd_pd(a, b, sum);
}

PYFASTNN_INLINE __m512 square_root(__m512 v) { return _mm512_sqrt_ps(v); }
PYFASTNN_INLINE __m512d square_root(__m512d v) { return _mm512_sqrt_pd(v); }

template <class V>
PYFASTNN_INLINE bool has_bits(V v) {
  const __m512i bits = reinterpret_cast<__m512i>(v);
  return _mm512_test_epi32_mask(bits, bits) != 0;
}

// 16 bytes from each of lane[i] + offset. By halves: Zen 4 loads 64 bytes a cycle, whatever part of
// them is wanted.
PYFASTNN_INLINE __m128 load_lane(const char* p) {
  return _mm_loadu_ps(reinterpret_cast<const float*>(p));
}
PYFASTNN_INLINE __m256 load_two_lanes(const char* low, const char* high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(load_lane(low)), load_lane(high), 1);
}
template <class V>
PYFASTNN_INLINE V load_lanes(const char* const (&lane)[4], int64_t offset) {
  const __m256 low = load_two_lanes(lane[0] + offset, lane[1] + offset);
  const __m256 high = load_two_lanes(lane[2] + offset, lane[3] + offset);
  return reinterpret_cast<V>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
}

template <class V>
PYFASTNN_INLINE V load_lanes(const char* const (&lane)[2], int64_t offset) {
  return reinterpret_cast<V>(load_two_lanes(lane[0] + offset, lane[1] + offset));
}
// The 16 bytes at p in every lane.
template <class V>
PYFASTNN_INLINE V load_repeated(const void* p) {
  return reinterpret_cast<V>(_mm256_broadcast_ps(static_cast<const __m128*>(p)));
}

PYFASTNN_INLINE __mmask16 first_lanes_32(int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1u);
}
PYFASTNN_INLINE __mmask8 first_lanes_64(int64_t n) { return static_cast<__mmask8>((1u << n) - 1u); }
PYFASTNN_INLINE __m512 load_tail(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first_lanes_32(n), p);
}
PYFASTNN_INLINE __m512d load_tail(const double* p, int64_t n) {
  return _mm512_maskz_loadu_pd(first_lanes_64(n), p);
}
PYFASTNN_INLINE void store_tail(float* p, __m512 v, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes_32(n), v);
}
PYFASTNN_INLINE void store_tail(double* p, __m512d v, int64_t n) {
  _mm512_mask_storeu_pd(p, first_lanes_64(n), v);
}

typedef uint16_t HalfBits __attribute__((vector_size(32)));
PYFASTNN_INLINE HalfBits load_tail(const uint16_t* p, int64_t n) {
  return reinterpret_cast<HalfBits>(_mm256_maskz_loadu_epi16(first_lanes_32(n), p));
}
PYFASTNN_INLINE void store_tail(uint16_t* p, HalfBits v, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes_32(n), reinterpret_cast<__m256i>(v));
}
PYFASTNN_INLINE __m512 half_to_float(HalfBits bits) {
  return _mm512_cvtph_ps(reinterpret_cast<__m256i>(bits));
}
PYFASTNN_INLINE HalfBits float_to_half(__m512 v) {
  return reinterpret_cast<HalfBits>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
