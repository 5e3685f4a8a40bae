#include <type_traits>

#include "network.h"
#include "passes.h"
#include "schedule.h"

namespace pyfastnn::engine {
namespace {

// Rows that are taken at a time. dZ of so few stays in the cache (64 wide: 1 MB a layer) until
// wgrad has used it, and memory does not grow with the batch. A constant, so that sums do not
// depend on threads.
constexpr int64_t kPartRows = 4096;

template <class S>
struct Backward {
  using Sum = Accumulator<S>;

  const Kernels<S>& kernels;
  const std::vector<Layer<S>>& layers;
  const int64_t all_rows;
  const Matrix<const S> input;
  const std::vector<Matrix<const S>>& outputs;
  const Matrix<const S> grad_output;
  const Gradients<S>& gradients;
  Scratch& scratch;
  const int64_t top = static_cast<int64_t>(layers.size()) - 1;
  int64_t low = 0;                            // the lowest layer whose dZ is needed
  int64_t begin = 0, rows = 0;                // of the part at hand
  std::vector<Matrix<S>> dz = {};             // dZ_l [rows, out_l] for low <= l <= top
  std::vector<Sum*> weight_sums = {};         // dW_l between parts, for 16-bit types
  std::vector<Sum*> bias_sums = {};           // [blocks of rows, out_l]: sums for db_l
  std::vector<PackedOperand<S>> packed = {};  // W of layers top, top - 1, ... for tiles

  void run() {
    while (low <= top && !wants_layer(low)) ++low;
    if (low > top) return;
    const int64_t parts = std::max<int64_t>(1, divide_up(all_rows, kPartRows));
    const int64_t tile = tile_rows(kernels, layers, Order::kAscending);
    reserve(parts);
    const bool by_tiles = goes_by_tiles(kernels, layers, all_rows, tile);
    if (by_tiles) pack_weights();
    for (int64_t part = 0; part < parts; ++part) {
      begin = part * kPartRows;
      rows = std::min(all_rows - begin, kPartRows);
      if (!top_is_masked()) dz[top] = {const_cast<S*>(row_of(grad_output)), grad_output.ld};
      if (by_tiles) {
        data_gradients_by_tiles(tile);
      } else {
        data_gradients_by_layers();
      }
      weight_gradients();
    }
  }

  void reserve(int64_t parts) {
    dz.resize(layers.size());
    weight_sums.resize(layers.size());
    bias_sums.resize(layers.size());
    const int64_t part_rows = std::min(all_rows, kPartRows);
    const int64_t blocks = parts * row_blocks(kernels, part_rows).count;
    for (int64_t l = low; l <= top; ++l) {
      const Layer<S>& layer = layers[l];
      if (l < top || top_is_masked()) {
        const int64_t ld = scratch_ld<S>(layer.out);
        dz[l] = {scratch.take_array<S>(part_rows * ld), ld};
      }
      if (parts > 1 && !std::is_same_v<S, Sum> && gradients.weights[l] != nullptr) {
        weight_sums[l] = scratch.take_array<Sum>(layer.out * layer.in);
      }
      if (gradients.biases[l] != nullptr)
        bias_sums[l] = scratch.take_array<Sum>(blocks * layer.out);
    }
  }

  // The first row of the part.
  const S* row_of(const Matrix<const S>& matrix) const { return matrix.data + begin * matrix.ld; }

  bool wants_layer(int64_t l) const {
    return gradients.weights[l] != nullptr || gradients.biases[l] != nullptr ||
           (l == 0 && gradients.input != nullptr);
  }

  // Without a ReLU on top, dZ is grad_output itself.
  bool top_is_masked() const { return layers[top].relu; }

  void mask_top(Range range) {
    const Matrix<const S>& y = outputs[top];
    kernels.mask_rows(row_of(grad_output) + range.begin * grad_output.ld, grad_output.ld,
                      row_of(y) + range.begin * y.ld, y.ld, range.size(), layers[top].out,
                      dz[top].data + range.begin * dz[top].ld, dz[top].ld);
  }

  // For a hidden layer with the mask of the layer below: dZ_{l-1} = dX * (not h_l <= 0).
  Gemm<S> dgrad_of(int64_t l) const {
    if (l == 0) {
      const Matrix<S> dx{gradients.input + begin * layers[0].in, layers[0].in};
      return dgrad(layers[0], rows, as_const(dz[0]), dx, {});
    }
    return dgrad(layers[l], rows, as_const(dz[l]), dz[l - 1], rows_from(outputs[l - 1], begin));
  }

  bool needs_dgrad(int64_t l) const { return l > low || (l == 0 && gradients.input != nullptr); }

  void data_gradients_by_layers() {
    if (top_is_masked()) {
      const int threads = threads_for(rows * layers[top].out * 8);
      parallel_tasks(threads, threads,
                     [&](int64_t task) { mask_top(part(rows, 1, threads, task)); });
    }
    for (int64_t l = top; l >= 0 && needs_dgrad(l); --l) gemm_by_columns(kernels, dgrad_of(l));
  }

  void pack_weights() {
    std::vector<PackJob<S>> jobs;
    for (int64_t l = top; l >= 0 && needs_dgrad(l); --l) {
      const Layer<S>& layer = layers[l];
      jobs.push_back({layer.weight, layer.out, layer.in});
    }
    packed = pack_operands(kernels, jobs, scratch);
  }

  void data_gradients_by_tiles(int64_t tile) {
    int64_t work = rows * layers[top].out * 8;
    for (int64_t l = top; l >= 0 && needs_dgrad(l); --l) {
      work += gemm_work(rows, layers[l].in, layers[l].out);
    }
    const int threads = threads_for(work);
    const int64_t step = balanced_tile(kernels, rows, tile, threads);
    parallel_tasks(divide_up(rows, step), threads, [&](int64_t task) {
      const Range range{task * step, std::min(rows, (task + 1) * step)};
      if (top_is_masked()) mask_top(range);
      for (size_t j = 0; j < packed.size(); ++j) {
        Gemm<S> args = dgrad_of(top - static_cast<int64_t>(j));
        args.b_packed = &packed[j];
        gemm(kernels, args, range, {0, args.n});
      }
    });
  }

  // ---- sums over the rows: each thread owns a part of dW, so no sum depends on their number ----

  // A part of dW_l: rows of out, columns of in. The part that has column 0 makes that part of db_l
  // too.
  struct WgradTask {
    int64_t layer;
    Range out, in;
  };

  void weight_gradients() {
    int64_t work = 0;
    for (int64_t l = low; l <= top; ++l) work += layer_work(l);
    const int threads = threads_for(work);
    std::vector<WgradTask> tasks;
    for (int64_t l = low; l <= top; ++l) {
      if (layer_work(l) > 0 || wants_layer(l)) add_tasks(l, work, threads, tasks);
    }
    parallel_tasks(static_cast<int64_t>(tasks.size()), threads,
                   [&](int64_t task) { run_task(tasks[task]); });
  }

  int64_t layer_work(int64_t l) const {
    if (gradients.weights[l] != nullptr) return gemm_work(layers[l].out, layers[l].in, rows);
    return gradients.biases[l] != nullptr ? rows * layers[l].out : 0;
  }

  void add_tasks(int64_t l, int64_t work, int threads, std::vector<WgradTask>& tasks) const {
    const Layer<S>& layer = layers[l];
    const auto [rows, columns] =
        weight_parts(kernels, layer.out, layer.in, layer_work(l), work, threads);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        tasks.push_back(
            {l, part(layer.out, 1, rows, i), part(layer.in, panel_width(kernels), columns, j)});
      }
    }
  }

  void run_task(const WgradTask& task) {
    const int64_t l = task.layer;
    if (gradients.weights[l] != nullptr) gemm(kernels, wgrad_of(l), task.out, task.in);
    if (gradients.biases[l] != nullptr && task.in.begin == 0) bgrad(l, task.out);
  }

  Gemm<S> wgrad_of(int64_t l) const {
    const Matrix<const S> h = rows_from(l == 0 ? input : outputs[l - 1], begin);
    Gemm<S> args = wgrad(layers[l].out, layers[l].in, rows, as_const(dz[l]), h,
                         gradients.weights[l], layers[l].in);
    args.first = begin == 0;
    args.last = is_last_part();
    args.sums = weight_sums[l];
    return args;
  }

  bool is_last_part() const { return begin + rows == all_rows; }

  void bgrad(int64_t l, Range out) {
    const int64_t width = layers[l].out;
    const int64_t before = begin / kPartRows * row_blocks(kernels, kPartRows).count;
    Sum* sums = bias_sums[l];
    column_sums_by_blocks(kernels, as_const(dz[l]), rows, out, sums + before * width, width);
    if (!is_last_part()) return;
    Scratch& own = Scratch::of_this_thread();
    Scratch::Frame frame(own);
    Sum* total = own.take_array<Sum>(out.size());
    const int64_t blocks = before + row_blocks(kernels, rows).count;
    active_kernels<Sum>().column_sums(sums + out.begin, width, blocks, out.size(), total);
    kernels.round(total, out.size(), gradients.biases[l] + out.begin);
  }
};

}  // namespace

template <class S>
void backward(const std::vector<Layer<S>>& layers, int64_t rows, Matrix<const S> input,
              const std::vector<Matrix<const S>>& outputs, Matrix<const S> grad_output,
              const Gradients<S>& gradients) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  Backward<S>{active_kernels<S>(), layers, rows, input, outputs, grad_output, gradients, scratch}
      .run();
}

#define PYFASTNN_INSTANTIATE(S)                                                  \
  template void backward(const std::vector<Layer<S>>&, int64_t, Matrix<const S>, \
                         const std::vector<Matrix<const S>>&, Matrix<const S>,   \
                         const Gradients<S>&);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
