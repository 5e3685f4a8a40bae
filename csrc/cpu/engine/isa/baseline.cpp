// The portable instruction set: vectors of 16 bytes, no intrinsics (SSE2 on x86-64, NEON on arm64).
#include "../training_kernels.h"

#define PYFASTNN_INLINE [[gnu::always_inline]] inline

namespace pyfastnn::engine {
namespace {

constexpr int kVectorBytes = 16;
// 16 registers, no memory operand for a broadcast.
constexpr int kMaxRows[] = {0, 8, 6, 4, 3, 2, 2, 1, 1};
constexpr int kMaxTileVectors = 12;
constexpr int kMaxRowsTransposed = 3;
constexpr int kMaxBatchTransposed = 4;

typedef float F32 __attribute__((vector_size(16)));
typedef double F64 __attribute__((vector_size(16)));
typedef uint16_t HalfBits __attribute__((vector_size(8)));

PYFASTNN_INLINE F32 fma(F32 sum, F32 a, F32 b) { return sum + a * b; }
PYFASTNN_INLINE F64 fma(F64 sum, F64 a, F64 b) { return sum + a * b; }

PYFASTNN_INLINE F32 square_root(F32 v) {
  for (int i = 0; i < 4; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
PYFASTNN_INLINE F64 square_root(F64 v) {
  for (int i = 0; i < 2; ++i) v[i] = __builtin_sqrt(v[i]);
  return v;
}

template <class V>
PYFASTNN_INLINE bool has_bits(V v) {
  uint64_t halves[2];
  __builtin_memcpy(halves, &v, sizeof(halves));
  return (halves[0] | halves[1]) != 0;
}

template <class V>
PYFASTNN_INLINE V load_lanes(const char* const (&lane)[1], int64_t offset) {
  V v;
  __builtin_memcpy(&v, lane[0] + offset, sizeof(v));
  return v;
}

template <class V>
PYFASTNN_INLINE V load_repeated(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class V, class T>
PYFASTNN_INLINE V load_elements(const T* p, int64_t n) {
  V v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
PYFASTNN_INLINE F32 load_tail(const float* p, int64_t n) { return load_elements<F32>(p, n); }
PYFASTNN_INLINE F64 load_tail(const double* p, int64_t n) { return load_elements<F64>(p, n); }
PYFASTNN_INLINE HalfBits load_tail(const uint16_t* p, int64_t n) {
  return load_elements<HalfBits>(p, n);
}
template <class V, class T>
PYFASTNN_INLINE void store_tail(T* p, V v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

// _Float16 converts exactly to float and rounds to nearest even on the way back, in hardware or in
// software.
PYFASTNN_INLINE F32 half_to_float(HalfBits bits) {
  F32 v;
  for (int i = 0; i < 4; ++i)
    v[i] = static_cast<float>(__builtin_bit_cast(_Float16, static_cast<uint16_t>(bits[i])));
  return v;
}
PYFASTNN_INLINE HalfBits float_to_half(F32 v) {
  HalfBits bits;
  for (int i = 0; i < 4; ++i) bits[i] = __builtin_bit_cast(uint16_t, static_cast<_Float16>(v[i]));
  return bits;
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

namespace {
bool is_supported() { return true; }
}  // namespace

const Isa kBaseline = {"baseline", is_supported, &kFloat,       &kDouble,       &kBFloat16,
                       &kHalf,     &kTrainFloat, &kTrainDouble, &kTrainBFloat16};

}  // namespace pyfastnn::engine
