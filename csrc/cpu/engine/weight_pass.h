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

// A block of dW that is turned into an update while it is in the L2 cache, and the columns of X (or
// dZ) that it is made from: for up to 16 rows of the batch these alone, since writing dW would be
// all the work.
inline constexpr int64_t kBlockBytes = 128 * 1024;
inline constexpr int64_t kBBytes = 256 * 1024;
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
      const auto [m, n] = shape(l);
      const auto [rows, columns] = weight_parts(part_.kernels, m, n, weight_work(l), work, threads);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          tasks.push_back(
              {l, part(m, 1, rows, i), part(n, panel_width(part_.kernels), columns, j)});
        }
      }
    }
    parallel_tasks(static_cast<int64_t>(tasks.size()), threads,
                   [&](int64_t task) { run_weight_task(tasks[task]); });
  }

 private:
  // A part of dW of a layer as the weight lies: rows of out and columns of in, or the other way
  // round. The parts that have input 0 make db too.
  struct WeightTask {
    int64_t layer;
    Range rows, columns;
  };

  // Of dW as it lies.
  struct Shape {
    int64_t m, n;
  };
  Shape shape(int64_t l) const {
    const TrainedLayer<P>& layer = part_.layers[l];
    return layer.by_columns ? Shape{layer.in, layer.out} : Shape{layer.out, layer.in};
  }

  // dW = left^T right.
  Matrix<const S> left(int64_t l) const {
    return part_.layers[l].by_columns ? part_.inputs[l] : as_const(part_.dz[l]);
  }
  Operand<S> right(int64_t l) const {
    const Matrix<const S> b = part_.layers[l].by_columns ? as_const(part_.dz[l]) : part_.inputs[l];
    return {b.data, b.ld, Layout::kRows};
  }

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
    const bool by_columns = part_.layers[task.layer].by_columns;
    const Range in = by_columns ? task.rows : task.columns,
                out = by_columns ? task.columns : task.rows;
    if (part_.layers[task.layer].bias.needs_gradient && in.begin == 0)
      sum_biases(task.layer, out, own);
  }

  // dW[rows, columns] (+)= of this part, to `to` whose rows lie `ld` apart. `packed`: right[:,
  // columns], or null. `weights`: W[rows, columns] if it will be wanted next.
  void multiply_weights(int64_t l, Range rows, Range columns, P* to, int64_t ld, bool first,
                        const PackedOperand<S>* packed = nullptr,
                        const P* weights = nullptr) const {
    const Matrix<const S> a = left(l);
    const Operand<S> b = right(l);
    Gemm<S> args = wgrad<S>(rows.size(), columns.size(), part_.rows, {a.data + rows.begin, a.ld},
                            {b.data + columns.begin, b.ld}, reinterpret_cast<S*>(to), ld);
    args.first = first;
    args.b_packed = packed;
    args.wanted = weights;
    args.ld_wanted = shape(l).n;
    if constexpr (!std::is_same_v<S, P>) {
      args.n = ld;  // sums in P: [m, n]
      args.sums = to;
      args.last = false;
    }
    gemm(part_.kernels, args, {0, rows.size()}, {0, columns.size()});
  }

  void sum_weights(const WeightTask& task) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    const int64_t n = shape(task.layer).n;
    P* sums = part_.sums[2 * task.layer];
    const int64_t corner = task.rows.begin * n + task.columns.begin;
    multiply_weights(task.layer, task.rows, task.columns, sums + corner, n, part_.is_first);
    if (part_.is_last && part_.updates && layer.weight.is_updated) {
      update_block(layer.weight, corner, task.rows.size(), task.columns.size(), n,
                   {sums + corner, n}, 1);
    }
  }

  // The gradient is never stored as a whole: block by block it becomes an update. Blocks are wide
  // and flat, so that parameters are read and written in long pieces.
  void update_by_blocks(const WeightTask& task, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    if (!layer.weight.is_updated || task.rows.size() == 0 || task.columns.size() == 0) return;
    const int64_t batch = std::max<int64_t>(1, part_.rows), n = shape(task.layer).n;
    if constexpr (std::is_same_v<S, P>) {
      if (part_.rows <= kShortRows) {
        update_by_columns(task, columns_in(kBBytes, batch), own);
        return;
      }
    }
    const bool packs = task.rows.size() > rows_worth_packing(right(task.layer));
    const int64_t width =
        std::min(task.columns.size(), columns_in(kBBytes, packs ? batch : task.rows.size()));
    const int64_t tile = part_.kernels.max_rows[kPanelVectors];
    const int64_t flat = kBlockBytes / (width * static_cast<int64_t>(sizeof(P)));
    const int64_t height =
        std::min(task.rows.size(), packs ? std::max(tile, flat / tile * tile) : task.rows.size());
    P* block = own.take_array<P>(height * width);
    for (int64_t j = task.columns.begin; j < task.columns.end; j += width) {
      Scratch::Frame frame(own);
      const Range columns{j, std::min(j + width, task.columns.end)};
      const PackedOperand<S> b = packs ? pack_right(task.layer, columns, own) : PackedOperand<S>{};
      for (int64_t i = task.rows.begin; i < task.rows.end; i += height) {
        const Range rows{i, std::min(i + height, task.rows.end)};
        // The parameters come from memory while their gradient is made.
        multiply_weights(task.layer, rows, columns, block, columns.size(), /*first=*/true,
                         packs ? &b : nullptr, layer.weight.data + i * n + j);
        update_block(layer.weight, i * n + j, rows.size(), columns.size(), n,
                     {block, columns.size()}, 1);
      }
    }
  }

  // Whole panels of columns, `depth` elements each, in so many bytes.
  int64_t columns_in(int64_t bytes, int64_t depth) const {
    const int64_t panel = panel_width(part_.kernels);
    return std::max<int64_t>(1, bytes / (depth * static_cast<int64_t>(sizeof(P)) * panel)) * panel;
  }

  // Columns of the right operand in panels, for all blocks of rows of dW.
  PackedOperand<S> pack_right(int64_t l, Range columns, Scratch& own) const {
    const Kernels<S>& kernels = part_.kernels;
    Operand<S> b = right(l);
    b.data += columns.begin;
    const int64_t panels = panel_count(kernels, columns.size()),
                  bytes = panel_bytes(kernels, part_.rows);
    void* packed = own.take(panels * bytes);
    for (int64_t panel = 0; panel < panels; ++panel)
      pack_panel(kernels, b, part_.rows, columns.size(), panel, packed);
    return {packed, bytes};
  }

  // Few rows: the gradient is not even a block, it becomes an update in the registers.
  void update_by_columns(const WeightTask& task, int64_t width, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[task.layer];
    const Matrix<const S> a = left(task.layer);
    const Operand<S> whole = right(task.layer);
    const int64_t n = shape(task.layer).n;
    // Rows that share cache sets are copied apart.
    const bool copies = part_.rows > kCacheWays && rows_conflict(whole);
    const int64_t ld = scratch_ld<S>(width);
    S* copy = copies ? own.take_array<S>(part_.rows * ld) : nullptr;
    for (int64_t j = task.columns.begin; j < task.columns.end; j += width) {
      const int64_t columns = std::min(width, task.columns.end - j);
      Matrix<const S> b{whole.data + j, whole.ld};
      if (copies) {
        for (int64_t i = 0; i < part_.rows; ++i)
          std::copy_n(b.data + i * b.ld, columns, copy + i * ld);
        b = {copy, ld};
      }
      const Gradient<P> gradient{nullptr, 0,      part_.rows, a.data + task.rows.begin,
                                 a.ld,    b.data, b.ld};
      update_block(layer.weight, task.rows.begin * n + j, task.rows.size(), columns, n, gradient,
                   1);
    }
  }

  void sum_biases(int64_t l, Range out, Scratch& own) const {
    const TrainedLayer<P>& layer = part_.layers[l];
    const int64_t before = part_.blocks_before;
    P* sums = part_.bias_sums[l];
    column_sums_by_blocks(part_.kernels, as_const(part_.dz[l]), part_.rows, out,
                          sums + before * layer.out, layer.out);
    if (!part_.is_last) return;
    P* kept = part_.sums[2 * l + 1];
    P* total = kept != nullptr ? kept + out.begin : own.take_array<P>(out.size());
    active_kernels<P>().column_sums(sums + out.begin, layer.out,
                                    before + row_blocks(part_.kernels, part_.rows).count,
                                    out.size(), total);
    if (part_.updates && layer.bias.is_updated) {
      update_block(layer.bias, out.begin, 1, out.size(), 0, {total, 0}, 1);
    }
  }

  int64_t top() const { return static_cast<int64_t>(part_.layers.size()) - 1; }

  const PartOfBatch<S> part_;
};

}  // namespace pyfastnn::engine
