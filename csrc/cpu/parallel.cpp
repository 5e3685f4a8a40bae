// The engine's threads are ATen's, so that torch.set_num_threads holds for both.
#include "engine/parallel.h"

#include <ATen/Parallel.h>
#include <pthread.h>

#include <atomic>

namespace pyfastnn::engine {
namespace {

// OpenMP's threads do not survive fork(): a child that asks for them waits for ever. So a child of
// a process in which this library has used several threads runs on one.
std::atomic<bool> used_threads{false};
std::atomic<bool> lost_threads{false};

void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] {
    if (used_threads.load()) lost_threads.store(true);
  });
  (void)registered;
}

}  // namespace

int max_threads() {
  return at::in_parallel_region() || lost_threads.load() ? 1 : at::get_num_threads();
}

void run_tasks(int64_t count, int threads, void (*body)(void* context, int64_t task),
               void* context) {
  watch_forks();
  used_threads.store(true);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(threads, count), 1, [&](int64_t, int64_t) {
    for (int64_t task = next++; task < count; task = next++) body(context, task);
  });
}

}  // namespace pyfastnn::engine
