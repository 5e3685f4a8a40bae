// AVX-512 with BF16: vdpbf16ps multiplies pairs of bfloat16 at twice the rate of float. All other
// types are those of avx512. The instruction treats subnormal bfloat16 numbers as zero.
#if defined(__x86_64__)
// GCC 12 takes the deliberately undefined operands inside its own AVX-512 headers for mistakes (GCC
// bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "../kernels.h"

#define PYFASTNN_INLINE [[gnu::always_inline]] inline
#define PYFASTNN_BF16_DOT

namespace pyfastnn::engine {
#pragma GCC push_options
#pragma GCC target( \
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,prefer-vector-width=512")
namespace {

#include "avx512-inl.h"

typedef uint32_t Pairs __attribute__((vector_size(64)));
PYFASTNN_INLINE __m512 fma(__m512 sum, Pairs a, Pairs b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
typedef uint32_t NarrowPairs __attribute__((vector_size(32)));
PYFASTNN_INLINE __m256 fma(__m256 sum, NarrowPairs a, NarrowPairs b) {
  return _mm256_dpbf16_ps(sum, reinterpret_cast<__m256bh>(a), reinterpret_cast<__m256bh>(b));
}

#include "vector-inl.h"
#include "micro_kernel-inl.h"
#include "few_rows-inl.h"
#include "zeros-inl.h"
#include "panel-inl.h"
#include "sparse-inl.h"
#include "pack-inl.h"

constexpr Kernels<BFloat16> kBFloat16 = make_kernels<BFloat16>();

}  // namespace
#pragma GCC pop_options

namespace {
bool is_supported() { return kAvx512.is_supported() && __builtin_cpu_supports("avx512bf16") != 0; }
}  // namespace

const Isa kAvx512Bf16 = {"avx512_bf16",        is_supported,         kAvx512.f32,
                         kAvx512.f64,          &kBFloat16,           kAvx512.f16,
                         kAvx512.training_f32, kAvx512.training_f64, kAvx512.training_bf16};

}  // namespace pyfastnn::engine
#endif
