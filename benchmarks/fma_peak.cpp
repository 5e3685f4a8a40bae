// The processor's own limit: independent multiply-adds that never leave the registers.
// Usage: fma_peak THREADS. Prints "dtype isa GFLOP/s" per line, all threads together.
// Built with -O3 -march=native at bench time (at -O2 the inner loops stay rolled: a third).
// The bfloat16 line counts dot-product instructions; matrix units (AMX) are not counted.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int kChains = 12;  // enough to cover the latency of two FMA pipes
// A thread's best trial counts, since other work on the machine only slows it. Many short ones, so
// that some fit between the time slices of that other work.
constexpr int kTrials = 100;
constexpr double kSecondsPerTrial = 0.003;

using Vec16 = float __attribute__((vector_size(64)));
using Vec8 = float __attribute__((vector_size(32)));
using Vec4 = float __attribute__((vector_size(16)));

template <class Vec>
struct Float32 {
  static constexpr double kFlops = kChains * 2.0 * sizeof(Vec) / sizeof(float);
  static void run(long steps) {
    Vec a[kChains] = {}, b = {}, c = {};
    b += 0.999f;
    c += 1e-3f;
    for (int i = 0; i < kChains; ++i) a[i] += static_cast<float>(i);
    for (long step = 0; step < steps; ++step)
      for (int i = 0; i < kChains; ++i) a[i] = a[i] * b + c;  // contracted to one FMA
    volatile Vec sink = std::accumulate(a + 1, a + kChains, a[0]);
    (void)sink;
  }
};

#ifdef __AVX512BF16__
struct Bfloat16 {
  static constexpr double kFlops = kChains * 64.0;  // 32 multiplications, 32 additions each
  static void run(long steps) {
    __m512 a[kChains];
    for (int i = 0; i < kChains; ++i) a[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
    const __m512bh c = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-3f));
    for (long step = 0; step < steps; ++step)
      for (int i = 0; i < kChains; ++i) a[i] = _mm512_dpbf16_ps(a[i], b, c);
    volatile __m512 sink = std::accumulate(a + 1, a + kChains, a[0]);
    (void)sink;
  }
};
#endif

double seconds_of(void (*run)(long), long steps) {
  const auto begin = std::chrono::steady_clock::now();
  run(steps);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// GFLOP/s of the calling thread at its best.
template <class Kernel>
double best_rate() {
  constexpr long kProbe = 10'000;
  const double probe = seconds_of(Kernel::run, kProbe);
  const long steps = std::max(kProbe, static_cast<long>(kProbe * kSecondsPerTrial / probe));
  double best = 1e30;
  for (int trial = 0; trial < kTrials; ++trial)
    best = std::min(best, seconds_of(Kernel::run, steps));
  return steps * Kernel::kFlops / best / 1e9;
}

template <class Kernel>
void report(const char* dtype, const char* isa, int threads) {
  std::barrier together(threads);
  std::vector<double> rates(threads);
  std::vector<std::thread> pool;
  for (double& rate : rates)
    pool.emplace_back([&] {
      together.arrive_and_wait();
      rate = best_rate<Kernel>();
    });
  for (auto& thread : pool) thread.join();
  std::printf("%s %s %.2f\n", dtype, isa, std::accumulate(rates.begin(), rates.end(), 0.0));
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "fma_peak: expected the number of threads as its only argument\n");
    return 2;
  }
#ifdef __AVX512F__
  report<Float32<Vec16>>("float32", "avx512", threads);
#endif
#ifdef __AVX2__
  report<Float32<Vec8>>("float32", "avx2", threads);
#endif
#ifndef __AVX2__
  report<Float32<Vec4>>("float32", "baseline", threads);
#endif
#ifdef __AVX512BF16__
  report<Bfloat16>("bfloat16", "avx512_bf16", threads);
#endif
}
