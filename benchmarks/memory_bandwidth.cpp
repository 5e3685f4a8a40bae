// How fast memory gives and takes: arrays far larger than the caches, all threads at once.
// Usage: memory_bandwidth THREADS BYTES. Prints "read GB/s" and "update GB/s"; an update reads and
// writes every element in place, and both directions count. BYTES is for all threads together.
// Built with -O3 -march=native at bench time.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

namespace {

// The best trial counts, since other work on the machine only slows it; it takes all threads at
// once to be good, hence many.
constexpr int kTrials = 50;
constexpr int kStreams = 8;  // sums that do not wait for each other

using Vec = float __attribute__((vector_size(64)));
using Kernel = void (*)(Vec* data, size_t count);

void read_all(Vec* data, size_t count) {
  Vec sums[kStreams] = {};
  for (size_t i = 0; i + kStreams <= count; i += kStreams)
    for (int j = 0; j < kStreams; ++j) sums[j] += data[i + j];
  volatile Vec sink = std::accumulate(sums + 1, sums + kStreams, sums[0]);
  (void)sink;
}

void update_all(Vec* data, size_t count) {
  for (size_t i = 0; i < count; ++i) data[i] = data[i] * 0.999f + 1e-3f;
}

// Seconds of the slowest thread in the best trial.
double best_seconds(Kernel kernel, std::vector<std::vector<Vec>>& slices) {
  const int threads = static_cast<int>(slices.size());
  std::barrier together(threads);
  std::vector<std::vector<double>> seconds(threads, std::vector<double>(kTrials));
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      for (double& trial : seconds[t]) {
        together.arrive_and_wait();
        const auto begin = std::chrono::steady_clock::now();
        kernel(slices[t].data(), slices[t].size());
        trial = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      }
    });
  for (auto& thread : pool) thread.join();
  double best = 1e30;
  for (int trial = 0; trial < kTrials; ++trial) {
    double slowest = 0;
    for (const auto& own : seconds) slowest = std::max(slowest, own[trial]);
    best = std::min(best, slowest);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc == 3 ? std::atoi(argv[1]) : 0;
  const size_t count = argc == 3 ? std::strtoull(argv[2], nullptr, 10) / sizeof(Vec) : 0;
  if (threads < 1 || count < static_cast<size_t>(threads)) {
    std::fprintf(stderr, "memory_bandwidth: expected the numbers of threads and of bytes\n");
    return 2;
  }
  std::vector<std::vector<Vec>> slices(threads, std::vector<Vec>(count / threads, Vec{} + 1.0f));
  const double bytes = static_cast<double>(slices.size() * slices[0].size() * sizeof(Vec));
  std::printf("read %.2f\n", bytes / best_seconds(read_all, slices) / 1e9);
  std::printf("update %.2f\n", 2 * bytes / best_seconds(update_all, slices) / 1e9);
}
