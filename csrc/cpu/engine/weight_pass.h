// Sums over the rows of a part of a batch, and what becomes of them: wgrad, bgrad, update.
//
// Each thread owns a part of dW, so no sum depends on their number.
#pragma once

#include <algorithm>
#include <type_traits>

#include "passes.h"
#include "schedule.h"
#include "update.h"

namespace pyfastnn::engine {

// A block of dW that is turned into an update while it is in the L2 cache, and the columns of X
// that it is made from: for up to 16 rows of the batch X alone, since writing dW would be all the
// work.
inline constexpr int64_t kBlockBytes = 128 * 1024;
inline constexpr int64_t kXBytes = 256 * 1024;
inline constexpr int64_t kShortRows = 16;

// What is known of the part when rows have gone forward and back.
template <class S>
struct PartOfBatch {
  using P = Accumulator<S>;
  const Kernels<S>& kernels;
  const std::vector<TrainedLayer<P>>& layers;
  const std::vector<Layer<S>>& net;
  std::vector<Matrix<const S>> inputs;  // [rows, in_l] of every layer
  const std::vector<Matrix<S>>& dz;     // [rows, out_l]
  // weight_0, bias_0, weight_1, ...: where gradients are summed and kept, or null.
  const std::vector<P*>& sums;
  const std::vector<P*>& bias_sums;  // [blocks of all rows, out_l]
  int64_t low;                       // the lowest layer that needs a gradient
  int64_t rows;
  int64_t blocks_before;  // blocks of rows in the parts before
  bool is_first, is_last;
  bool updates;  // gradients update the parameters after the last part
};

template <class S>
class WeightPass {
  using P = Accumulator<S>;

 public:
  explicit WeightPass(const PartOfBatch<S>& part) : part_(part) {}

  void run() const {
    int64_t work = 0;
    for (int64_t l = part_.low; l <= top(); ++l) work += weight_work(l);
    const int threads = threads_for(work);
    std::vector<WeightTask> tasks;
    for (int64_t l = part_.low; l <= top(); ++l) {
      if (!part_.layers[l].needs_gradient()) continue;
      const auto [rows, columns] =
          weight_parts(part_.kernels, part_.layers[l], weight_work(l), work, threads);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          tasks.push_back({l, part(part_.layers[l].out, 1, rows, i),
                           part(part_.layers[l].in, panel_width(part_.kernels), columns, j)});
        }
      }
    }
    parallel_tasks(static_cast<int64_t>(tasks.size()), threads,
                   [&](int64_t task) { run_weight_task(tasks[task]); });
  }

 private:
  // A part of dW of a layer: rows of out, columns of in. The part that has column 0 makes that part
  // of db too.
  struct WeightTask {
    int64_t layer;
    Range out, in;
  };

  int64_t weight_work(int64_t l) const {
    if (part_.layers[l].weight.needs_gradient)
      return gemm_work(part_.layers[l].out, part_.layers[l].in, part_.rows) +
             8 * part_.layers[l].out * part_.layers[l].in;
    return part_.layers[l].bias.needs_gradient ? part_.rows * part_.layers[l].out : 0;
  }

  void run_weight_task(const WeightTask& task) const {
    Scratch& own = Scratch::of_this_thread();
    Scratch::Frame frame(own);
    if (part_.layers[task.layer].weight.needs_gradient) {
      if (part_.sums[2 * task.layer] != nullptr) {
        sum_weights(task);
      } else {
        update_by_blocks(task, own);
      }
    }
    if (part_.layers[task.layer].bias.needs_gradient && task.in.begin == 0) sum_biases(task, own);
  }

  // dW[out, in] (+)= of this part, to `to` whose rows lie `ld` apart. `packed`: X[:, in], or null.
  // `weights`: W[out, in] if it will be wanted next.
  void multiply_weights(int64_t l, Range out, Range in, P* to, int64_t ld, bool first,
                        const PackedOperand<S>* packed = nullptr,
                        const P* weights = nullptr) const {
    const Matrix<const S> x = part_.inputs[l];
    Gemm<S> args =
        wgrad<S>(part_.net[l], part_.rows, {part_.dz[l].data + out.begin, part_.dz[l].ld},
                 {x.data + in.begin, x.ld}, reinterpret_cast<S*>(to), ld);
    args.m = out.size();
    args.n = in.size();
    args.first = first;
    args.b_packed = packed;
    args.wanted = weights;
    args.ld_wanted = part_.layers[l].in;
    if constexpr (!std::is_same_v<S, P>) {
      args.n = ld;  // sums in P: [m, n]
      args.sums = to;
      args.last = false;
    }
    gemm(part_.kernels, args, {0, out.size()}, {0, in.size()});
  }

  void sum_weights(const WeightTask& task) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    P* sums = part_.sums[2 * task.layer];
    const int64_t corner = task.out.begin * layer.in + task.in.begin;
    multiply_weights(task.layer, task.out, task.in, sums + corner, layer.in, part_.is_first);
    if (part_.is_last && part_.updates && layer.weight.is_updated) {
      update_block(layer.weight, corner, task.out.size(), task.in.size(), layer.in,
                   {sums + corner, layer.in}, 1);
    }
  }

  // The gradient is never stored as a whole: block by block it becomes an update. Blocks are wide
  // and flat, so that parameters are read and written in long pieces.
  void update_by_blocks(const WeightTask& task, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    if (!layer.weight.is_updated || task.out.size() == 0 || task.in.size() == 0) return;
    const int64_t batch = std::max<int64_t>(1, part_.rows);
    if constexpr (std::is_same_v<S, P>) {
      if (part_.rows <= kShortRows) {
        update_by_columns(task, columns_in(kXBytes, batch), own);
        return;
      }
    }
    const bool packs = task.out.size() > kRowsWorthPacking;
    const int64_t columns =
        std::min(task.in.size(), columns_in(kXBytes, packs ? batch : task.out.size()));
    const int64_t tile = part_.kernels.max_rows[kPanelVectors];
    const int64_t flat = kBlockBytes / (columns * static_cast<int64_t>(sizeof(P)));
    const int64_t rows =
        std::min(task.out.size(), packs ? std::max(tile, flat / tile * tile) : task.out.size());
    P* block = own.take_array<P>(rows * columns);
    for (int64_t j = task.in.begin; j < task.in.end; j += columns) {
      Scratch::Frame frame(own);
      const Range in{j, std::min(j + columns, task.in.end)};
      const PackedOperand<S> x = packs ? pack_input(task.layer, in, own) : PackedOperand<S>{};
      for (int64_t i = task.out.begin; i < task.out.end; i += rows) {
        const Range out{i, std::min(i + rows, task.out.end)};
        // The parameters come from memory while their gradient is made.
        multiply_weights(task.layer, out, in, block, in.size(), /*first=*/true,
                         packs ? &x : nullptr, layer.weight.data + i * layer.in + j);
        update_block(layer.weight, i * layer.in + j, out.size(), in.size(), layer.in,
                     {block, in.size()}, 1);
      }
    }
  }

  // Whole panels of columns, `depth` elements each, in so many bytes.
  int64_t columns_in(int64_t bytes, int64_t depth) const {
    const int64_t panel = panel_width(part_.kernels);
    return std::max<int64_t>(1, bytes / (depth * static_cast<int64_t>(sizeof(P)) * panel)) * panel;
  }

  // Columns of X in panels, for all blocks of rows of dW.
  PackedOperand<S> pack_input(int64_t l, Range in, Scratch& own) const {
    const Kernels<S>& kernels = part_.kernels;
    const Operand<S> x{part_.inputs[l].data + in.begin, part_.inputs[l].ld, Layout::kRows};
    const int64_t panels = panel_count(kernels, in.size()),
                  bytes = panel_bytes(kernels, part_.rows);
    void* packed = own.take(panels * bytes);
    for (int64_t panel = 0; panel < panels; ++panel)
      pack_panel(kernels, x, part_.rows, in.size(), panel, packed);
    return {packed, bytes};
  }

  // Few rows: the gradient is not even a block, it becomes an update in the registers.
  void update_by_columns(const WeightTask& task, int64_t columns, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    const Matrix<S> dz = part_.dz[task.layer];
    const Matrix<const S> input = part_.inputs[task.layer];
    // Rows that share cache sets are copied apart.
    const bool copies =
        part_.rows > kCacheWays && rows_conflict(Operand<S>{input.data, input.ld, Layout::kRows});
    const int64_t ld = scratch_ld<S>(columns);
    S* copy = copies ? own.take_array<S>(part_.rows * ld) : nullptr;
    for (int64_t j = task.in.begin; j < task.in.end; j += columns) {
      const int64_t n = std::min(columns, task.in.end - j);
      Matrix<const S> x{input.data + j, input.ld};
      if (copies) {
        for (int64_t i = 0; i < part_.rows; ++i) std::copy_n(x.data + i * x.ld, n, copy + i * ld);
        x = {copy, ld};
      }
      const Gradient<P> gradient{nullptr, 0,      part_.rows, dz.data + task.out.begin,
                                 dz.ld,   x.data, x.ld};
      update_block(layer.weight, task.out.begin * layer.in + j, task.out.size(), n, layer.in,
                   gradient, 1);
    }
  }

  void sum_biases(const WeightTask& task, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    const int64_t before = part_.blocks_before;
    P* sums = part_.bias_sums[task.layer];
    column_sums_by_blocks(part_.kernels, as_const(part_.dz[task.layer]), part_.rows, task.out,
                          sums + before * layer.out, layer.out);
    if (!part_.is_last) return;
    P* kept = part_.sums[2 * task.layer + 1];
    P* total = kept != nullptr ? kept + task.out.begin : own.take_array<P>(task.out.size());
    active_kernels<P>().column_sums(sums + task.out.begin, layer.out,
                                    before + row_blocks(part_.kernels, part_.rows).count,
                                    task.out.size(), total);
    if (part_.updates && layer.bias.is_updated) {
      update_block(layer.bias, task.out.begin, 1, task.out.size(), 0, {total, 0}, 1);
    }
  }

  int64_t top() const { return static_cast<int64_t>(part_.layers.size()) - 1; }

  const PartOfBatch<S> part_;
};

}  // namespace pyfastnn::engine
