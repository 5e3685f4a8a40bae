#include "network.h"
#include "passes.h"
#include "schedule.h"

namespace pyfastnn::engine {
namespace {

// Where layer l writes `rows` rows from `row` on: the caller's tensor, or scratch.
template <class S>
Matrix<S> output_rows(const Layer<S>& layer, Matrix<S> wanted, int64_t row, int64_t rows,
                      Scratch& scratch) {
  if (wanted.data != nullptr || rows * layer.out == 0) return rows_from(wanted, row);
  const int64_t ld = scratch_ld<S>(layer.out);
  return {scratch.take_array<S>(rows * ld), ld};
}

template <class S>
void forward_by_layers(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers, int64_t rows,
                       Matrix<const S> input, const std::vector<Matrix<S>>& outputs,
                       Scratch& scratch) {
  Matrix<const S> h = input;
  for (size_t l = 0; l < layers.size(); ++l) {
    const Matrix<S> output = output_rows(layers[l], outputs[l], 0, rows, scratch);
    gemm_by_columns(kernels, fprop(layers[l], rows, h, output));
    h = {output.data, output.ld};
  }
}

template <class S>
void forward_by_tiles(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers, int64_t rows,
                      Matrix<const S> input, const std::vector<Matrix<S>>& outputs, int64_t tile,
                      Scratch& scratch) {
  std::vector<PackJob<S>> jobs;
  int64_t work = 0;
  for (const Layer<S>& layer : layers) {
    jobs.push_back({{layer.weight, layer.ld_weight, Layout::kColumns}, layer.in, layer.out});
    work += gemm_work(rows, layer.out, layer.in);
  }
  const auto packed = pack_operands(kernels, jobs, scratch);
  const int threads = threads_for(work);
  const int64_t step = balanced_tile(kernels, rows, tile, threads);
  parallel_tasks(divide_up(rows, step), threads, [&](int64_t task) {
    Scratch& own = Scratch::of_this_thread();
    Scratch::Frame frame(own);
    const int64_t row = task * step;
    const int64_t count = std::min(step, rows - row);
    Matrix<const S> h = rows_from(input, row);
    for (size_t l = 0; l < layers.size(); ++l) {
      const Matrix<S> output = output_rows(layers[l], outputs[l], row, count, own);
      Gemm<S> args = fprop(layers[l], count, h, output);
      args.b_packed = &packed[l];
      gemm(kernels, args, {0, count}, {0, layers[l].out});
      h = {output.data, output.ld};
    }
  });
}

}  // namespace

template <class S>
void forward(const std::vector<Layer<S>>& layers, int64_t rows, Matrix<const S> input,
             const std::vector<Matrix<S>>& outputs) {
  if (rows == 0) return;
  const Kernels<S>& kernels = active_kernels<S>();
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  const int64_t tile = tile_rows(kernels, layers, kFpropOrder);
  if (rows <= tile) {
    forward_by_layers(kernels, layers, rows, input, outputs, scratch);
  } else {
    forward_by_tiles(kernels, layers, rows, input, outputs, tile, scratch);
  }
}

template void forward(const std::vector<Layer<float>>&, int64_t, Matrix<const float>,
                      const std::vector<Matrix<float>>&);
template void forward(const std::vector<Layer<double>>&, int64_t, Matrix<const double>,
                      const std::vector<Matrix<double>>&);
template void forward(const std::vector<Layer<BFloat16>>&, int64_t, Matrix<const BFloat16>,
                      const std::vector<Matrix<BFloat16>>&);
template void forward(const std::vector<Layer<Half>>&, int64_t, Matrix<const Half>,
                      const std::vector<Matrix<Half>>&);

}  // namespace pyfastnn::engine
