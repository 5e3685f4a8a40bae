// AVX2 with FMA and F16C: vectors of 32 bytes.
#if defined(__x86_64__)
#include <immintrin.h>

#include "../training_kernels.h"

#define PYFASTNN_INLINE [[gnu::always_inline]] inline

namespace pyfastnn::engine {
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace {

constexpr int kVectorBytes = 32;
// 12 sums, up to 2 vectors of B and a broadcast in 16 registers.
constexpr int kMaxRows[] = {0, 12, 6, 4, 3, 2, 2, 1, 1};
constexpr int kMaxTileVectors = 12;
constexpr int kMaxRowsTransposed = 3;
constexpr int kMaxBatchTransposed = 4;

PYFASTNN_INLINE __m256 fma(__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); }
PYFASTNN_INLINE __m256d fma(__m256d sum, __m256d a, __m256d b) {
  return _mm256_fmadd_pd(a, b, sum);
}

PYFASTNN_INLINE __m256 square_root(__m256 v) { return _mm256_sqrt_ps(v); }
PYFASTNN_INLINE __m256d square_root(__m256d v) { return _mm256_sqrt_pd(v); }

template <class V>
PYFASTNN_INLINE bool has_bits(V v) {
  const __m256i bits = reinterpret_cast<__m256i>(v);
  return _mm256_testz_si256(bits, bits) == 0;
}

// 16 bytes from each of lane[i] + offset.
PYFASTNN_INLINE __m128 load_lane(const char* p) {
  return _mm_loadu_ps(reinterpret_cast<const float*>(p));
}
template <class V>
PYFASTNN_INLINE V load_lanes(const char* const (&lane)[2], int64_t offset) {
  return reinterpret_cast<V>(_mm256_insertf128_ps(
      _mm256_castps128_ps256(load_lane(lane[0] + offset)), load_lane(lane[1] + offset), 1));
}

// The 16 bytes at p in every lane.
template <class V>
PYFASTNN_INLINE V load_repeated(const void* p) {
  return reinterpret_cast<V>(_mm256_broadcast_ps(static_cast<const __m128*>(p)));
}

PYFASTNN_INLINE __m256i first_lanes_32(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
PYFASTNN_INLINE __m256i first_lanes_64(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
PYFASTNN_INLINE __m256 load_tail(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, first_lanes_32(n));
}
PYFASTNN_INLINE __m256d load_tail(const double* p, int64_t n) {
  return _mm256_maskload_pd(p, first_lanes_64(n));
}
PYFASTNN_INLINE void store_tail(float* p, __m256 v, int64_t n) {
  _mm256_maskstore_ps(p, first_lanes_32(n), v);
}
PYFASTNN_INLINE void store_tail(double* p, __m256d v, int64_t n) {
  _mm256_maskstore_pd(p, first_lanes_64(n), v);
}

typedef uint16_t HalfBits __attribute__((vector_size(16)));
PYFASTNN_INLINE HalfBits load_tail(const uint16_t* p, int64_t n) {
  alignas(16) uint16_t values[8] = {};
  for (int64_t i = 0; i < n; ++i) values[i] = p[i];
  return *reinterpret_cast<const HalfBits*>(values);
}
PYFASTNN_INLINE void store_tail(uint16_t* p, HalfBits v, int64_t n) {
  alignas(16) uint16_t values[8];
  *reinterpret_cast<HalfBits*>(values) = v;
  for (int64_t i = 0; i < n; ++i) p[i] = values[i];
}
PYFASTNN_INLINE __m256 half_to_float(HalfBits bits) {
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
}
PYFASTNN_INLINE HalfBits float_to_half(__m256 v) {
  return reinterpret_cast<HalfBits>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#include "vector-inl.h"
#include "micro_kernel-inl.h"
#include "few_rows-inl.h"
#include "zeros-inl.h"
#include "panel-inl.h"
#include "sparse-inl.h"
#include "pack-inl.h"
#include "update-inl.h"
#include "training-inl.h"

constexpr Kernels<float> kFloat = make_kernels<float>();
constexpr Kernels<double> kDouble = make_kernels<double>();
constexpr Kernels<BFloat16> kBFloat16 = make_kernels<BFloat16>();
constexpr Kernels<Half> kHalf = make_kernels<Half>();
constexpr TrainingKernels<float> kTrainFloat = make_training_kernels<float>();
constexpr TrainingKernels<double> kTrainDouble = make_training_kernels<double>();
constexpr TrainingKernels<BFloat16> kTrainBFloat16 = make_training_kernels<BFloat16>();

}  // namespace
#pragma GCC pop_options

namespace {
bool is_supported() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}
}  // namespace

const Isa kAvx2 = {"avx2", is_supported, &kFloat,       &kDouble,       &kBFloat16,
                   &kHalf, &kTrainFloat, &kTrainDouble, &kTrainBFloat16};

}  // namespace pyfastnn::engine
#endif
