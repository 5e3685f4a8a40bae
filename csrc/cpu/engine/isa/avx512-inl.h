// What both AVX-512 files share: vectors of 64 bytes, tails by mask. See vector-inl.h for the rules.

constexpr int kVectorBytes = 64;
constexpr int kMaxRows[] = {0, 14, 12, 8, 6};  // 24 sums hide the latency of two FMA a cycle (4 x 2) three times over
constexpr int kMaxTileVectors = 24;

PYFASTNN_INLINE __m512 fma(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
PYFASTNN_INLINE __m512d fma(__m512d sum, __m512d a, __m512d b) { return _mm512_fmadd_pd(a, b, sum); }

PYFASTNN_INLINE __mmask16 first_lanes_32(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
PYFASTNN_INLINE __mmask8 first_lanes_64(int64_t n) { return static_cast<__mmask8>((1u << n) - 1u); }
PYFASTNN_INLINE __m512 load_tail(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes_32(n), p); }
PYFASTNN_INLINE __m512d load_tail(const double* p, int64_t n) { return _mm512_maskz_loadu_pd(first_lanes_64(n), p); }
PYFASTNN_INLINE void store_tail(float* p, __m512 v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes_32(n), v); }
PYFASTNN_INLINE void store_tail(double* p, __m512d v, int64_t n) { _mm512_mask_storeu_pd(p, first_lanes_64(n), v); }

typedef uint16_t HalfBits __attribute__((vector_size(32)));
PYFASTNN_INLINE __m512 half_to_float(HalfBits bits) { return _mm512_cvtph_ps(reinterpret_cast<__m256i>(bits)); }
PYFASTNN_INLINE HalfBits float_to_half(__m512 v) {
  return reinterpret_cast<HalfBits>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
