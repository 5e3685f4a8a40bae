// Pieces that forward and backward share: how rows and columns are divided, and weights packed for
// all threads.
#pragma once

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "parallel.h"

namespace pyfastnn::engine {

// Work of one product in floating-point operations. Reading and packing a weight costs about as
// much as 8 of them: it decides for batches of a few rows.
inline int64_t gemm_work(int64_t m, int64_t n, int64_t k) { return n * k * (2 * m + 8); }

// Part `index` of `count` nearly equal parts of [0, total), each but the last a multiple of `unit`.
inline Range part(int64_t total, int64_t unit, int64_t count, int64_t index) {
  const int64_t units = divide_up(total, unit);
  return {std::min(total, units * index / count * unit),
          std::min(total, units * (index + 1) / count * unit)};
}

// A leading dimension for n columns of scratch: whole cache lines, and no multiple of 2 KB (see
// gemm.cpp).
template <class S>
int64_t scratch_ld(int64_t n) {
  constexpr int64_t line = 64 / sizeof(S);
  const int64_t ld = divide_up(n, line) * line;
  return ld * static_cast<int64_t>(sizeof(S)) % 2048 == 0 ? ld + line : ld;
}

// Rows that go through all layers together, for a network whose layers have these numbers of
// inputs.
template <class S, class Layers>
int64_t tile_rows(const Kernels<S>& kernels, const Layers& layers, Order order) {
  int64_t rows = 480;
  for (const auto& layer : layers)
    rows = std::min(rows, rows_in_cache(kernels, std::max(layer.in, layer.out), order));
  return rows;
}

// Rows go tile by tile only through layers whose weights stay in the L2 cache together. Wider ones
// go layer by layer, all rows of a part past each block of the weights: every tile would fetch all
// of them again (training step, Zen 4, one thread: 1024 x 5 with 1024 rows 87 -> 97 GFLOP/s,
// 4096-4096 with 128 rows 60 -> 84).
inline constexpr int64_t kTiledWeightBytes = 1024 * 1024;

template <class S, class Layers>
bool goes_by_tiles(const Kernels<S>& kernels, const Layers& layers, int64_t rows, int64_t tile) {
  int64_t bytes = 0;
  for (const auto& layer : layers)
    bytes += layer.out * layer.in * kernels.unit_bytes / kernels.k_per_unit;
  return rows > tile && bytes <= kTiledWeightBytes;
}

// Rows of a tile so that every thread gets the same number of tiles, at least two if they are not
// too small for it.
template <class S>
int64_t balanced_tile(const Kernels<S>& kernels, int64_t rows, int64_t tile, int threads) {
  const int64_t smallest = 2 * kernels.max_rows[kPanelVectors];
  int64_t tiles = divide_up(rows, tile);
  if (threads > 1) {
    tiles = std::max<int64_t>(tiles, std::min<int64_t>(2 * threads, rows / smallest));
    tiles = divide_up(tiles, threads) * threads;
  }
  return divide_up(rows, tiles);
}

// In how many parts of its rows and columns dW[m, n] of a layer is divided between threads: about
// four tasks a thread in all, so that threads finish together. Few panels: rows are divided as
// well.
struct WeightParts {
  int64_t rows, columns;
};
template <class S>
WeightParts weight_parts(const Kernels<S>& kernels, int64_t m, int64_t n, int64_t layer_work,
                         int64_t work, int threads) {
  const int64_t wanted =
      threads == 1 ? 1 : divide_up(4 * threads * layer_work, std::max<int64_t>(1, work));
  const int64_t panels = std::max<int64_t>(1, panel_count(kernels, n));
  const int64_t columns = std::clamp<int64_t>(wanted, 1, panels);
  const int64_t most = std::max<int64_t>(1, divide_up(m, 24));
  return {std::clamp<int64_t>(divide_up(wanted, columns), 1, most), columns};
}

template <class S>
struct PackJob {
  Operand<S> b;
  int64_t k, n;
};

// W^T of every layer, what fprop multiplies with.
template <class S, class Layers>
std::vector<PackJob<S>> fprop_jobs(const Layers& layers) {
  std::vector<PackJob<S>> jobs;
  for (const auto& layer : layers) jobs.push_back({transposed(layer.weight), layer.in, layer.out});
  return jobs;
}

// Packs whole operands; the panels of all of them are one list of tasks. Memory comes from
// take(bytes), or from `scratch`.
template <class S, class Take>
std::vector<PackedOperand<S>> pack_operands(const Kernels<S>& kernels,
                                            const std::vector<PackJob<S>>& jobs, const Take& take) {
  std::vector<PackedOperand<S>> packed;
  std::vector<int64_t> first_panel{0};
  int64_t elements = 0;
  for (const PackJob<S>& job : jobs) {
    const int64_t panels = panel_count(kernels, job.n);
    const int64_t bytes = panel_bytes(kernels, job.k);
    packed.push_back({take(panels * bytes), bytes});
    first_panel.push_back(first_panel.back() + panels);
    elements += job.k * job.n;
  }
  // More than packing costs: the threads it wakes are wanted for the products right after it
  // (784-128, batch 256, bfloat16, two threads: 0.82 of stock with 8).
  parallel_tasks(first_panel.back(), threads_for(24 * elements), [&](int64_t task) {
    size_t j = 0;
    while (task >= first_panel[j + 1]) ++j;
    pack_panel(kernels, jobs[j].b, jobs[j].k, jobs[j].n, task - first_panel[j],
               const_cast<void*>(packed[j].data));
  });
  return packed;
}

template <class S>
std::vector<PackedOperand<S>> pack_operands(const Kernels<S>& kernels,
                                            const std::vector<PackJob<S>>& jobs, Scratch& scratch) {
  return pack_operands(kernels, jobs, [&](int64_t bytes) { return scratch.take(bytes); });
}

// One product for all its rows, its columns divided between threads.
template <class S>
void gemm_by_columns(const Kernels<S>& kernels, const Gemm<S>& args) {
  const int threads = threads_for(gemm_work(args.m, args.n, args.k));
  const int64_t tasks = std::min<int64_t>(threads, panel_count(kernels, args.n));
  parallel_tasks(tasks, threads, [&](int64_t task) {
    gemm(kernels, args, {0, args.m}, part(args.n, panel_width(kernels), tasks, task));
  });
}

}  // namespace pyfastnn::engine
