// The threads the engine runs on. Inside the extension they are ATen's (parallel.cpp one folder
// up), so that torch.set_num_threads holds; the engine's own tests bring std::thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pyfastnn::engine {

// Threads that may be used now: 1 inside another parallel region.
int max_threads();

// Runs body(context, 0) ... body(context, count - 1), each once, on at most `threads` threads, and
// waits for all. Threads take the next task when they are free, so which thread runs a task is not
// fixed: results must not depend on it.
void run_tasks(int64_t count, int threads, void (*body)(void* context, int64_t task),
               void* context);

template <class Body>
void parallel_tasks(int64_t count, int threads, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (int64_t task = 0; task < count; ++task) body(task);
    return;
  }
  run_tasks(
      count, threads,
      [](void* context, int64_t task) { (*static_cast<const Body*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// A second thread costs 3 to 8 us to wake and to wait for. It pays from about this many
// floating-point operations a thread on (7 us on one Zen 4 core).
inline constexpr int64_t kWorkPerThread = 750'000;

inline int threads_for(int64_t work) {
  if (work < 2 * kWorkPerThread) return 1;
  return static_cast<int>(std::min<int64_t>(max_threads(), work / kWorkPerThread));
}

}  // namespace pyfastnn::engine
