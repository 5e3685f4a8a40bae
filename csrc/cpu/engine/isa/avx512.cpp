// AVX-512 (F, BW, DQ, VL): every processor since Skylake-SP and Zen 4.
#if defined(__x86_64__)
// GCC 12 takes the deliberately undefined operands inside its own AVX-512 headers for mistakes (GCC
// bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "../training_kernels.h"

#define PYFASTNN_INLINE [[gnu::always_inline]] inline

namespace pyfastnn::engine {
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
namespace {

#include "avx512-inl.h"
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
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}
}  // namespace

const Isa kAvx512 = {"avx512", is_supported, &kFloat,       &kDouble,       &kBFloat16,
                     &kHalf,   &kTrainFloat, &kTrainDouble, &kTrainBFloat16};

}  // namespace pyfastnn::engine
#endif
