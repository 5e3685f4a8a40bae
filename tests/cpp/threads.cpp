// The engine's threads for this test program: std::thread instead of ATen's pool.
#include <atomic>
#include <thread>
#include <vector>

#include "cpu/engine/parallel.h"

namespace pyfastnn::engine {

std::atomic<int> test_threads{1};

int max_threads() { return test_threads.load(); }

void run_tasks(int64_t count, int threads, void (*body)(void* context, int64_t task),
               void* context) {
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t task = next++; task < count; task = next++) body(context, task);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
}

}  // namespace pyfastnn::engine
