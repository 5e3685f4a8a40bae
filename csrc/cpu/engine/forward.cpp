#include "network.h"
#include "passes.h"
#include "schedule.h"

namespace pyfastnn::engine {
namespace {

// Rows that go layer by layer together: bounds the memory for hidden outputs.
constexpr int64_t kPartRows = 4096;

// Where layer l writes `rows` rows from `row` on: the caller's tensor, or scratch.
template <class S>
Matrix<S> output_rows(const Layer<S>& layer, Matrix<S> wanted, int64_t row, int64_t rows,
                      Scratch& scratch) {
  if (wanted.data != nullptr || rows * layer.out == 0) return rows_from(wanted, row);
  const int64_t ld = scratch_ld<S>(layer.out);
  return {scratch.take_array<S>(rows * ld), ld};
}

// The packed weight of a layer, or null where nothing has been packed.
template <class S>
const PackedOperand<S>* operand(const std::vector<PackedOperand<S>>& packed, size_t layer) {
  return packed.empty() ? nullptr : &packed[layer];
}

// Rows [row, row + count) through all layers; multiply(args) computes each of them.
template <class S, class Multiply>
void run_layers(const std::vector<Layer<S>>& layers, const std::vector<PackedOperand<S>>& packed,
                int64_t row, int64_t count, Matrix<const S> input,
                const std::vector<Matrix<S>>& outputs, const Multiply& multiply) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  Matrix<const S> h = rows_from(input, row);
  for (size_t l = 0; l < layers.size(); ++l) {
    const Matrix<S> output = output_rows(layers[l], outputs[l], row, count, scratch);
    Gemm<S> args = fprop(layers[l], count, h, output);
    args.b_packed = operand(packed, l);
    multiply(args);
    h = {output.data, output.ld};
  }
}

template <class S>
void forward_by_layers(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers,
                       const std::vector<PackedOperand<S>>& packed, int64_t rows,
                       Matrix<const S> input, const std::vector<Matrix<S>>& outputs) {
  for (int64_t row = 0; row < rows; row += kPartRows) {
    run_layers(layers, packed, row, std::min(kPartRows, rows - row), input, outputs,
               [&](const Gemm<S>& args) { gemm_by_columns(kernels, args); });
  }
}

template <class S>
void forward_by_tiles(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers,
                      const std::vector<PackedOperand<S>>& packed, int64_t rows,
                      Matrix<const S> input, const std::vector<Matrix<S>>& outputs, int64_t tile) {
  int64_t work = 0;
  for (const Layer<S>& layer : layers) work += gemm_work(rows, layer.out, layer.in);
  const int threads = threads_for(work);
  const int64_t step = balanced_tile(kernels, rows, tile, threads);
  parallel_tasks(divide_up(rows, step), threads, [&](int64_t task) {
    const int64_t row = task * step;
    run_layers(layers, packed, row, std::min(step, rows - row), input, outputs,
               [&](const Gemm<S>& args) { gemm(kernels, args, {0, args.m}, {0, args.n}); });
  });
}

}  // namespace

template <class S>
void forward(const Kernels<S>& kernels, const std::vector<Layer<S>>& layers,
             const std::vector<PackedOperand<S>>& packed, int64_t rows, Matrix<const S> input,
             const std::vector<Matrix<S>>& outputs) {
  if (rows == 0) return;
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  const int64_t tile = tile_rows(kernels, layers, kFpropOrder);
  if (!goes_by_tiles(kernels, layers, rows, tile)) {
    forward_by_layers(kernels, layers, packed, rows, input, outputs);
  } else if (!packed.empty()) {
    forward_by_tiles(kernels, layers, packed, rows, input, outputs, tile);
  } else {
    const auto for_this_call = pack_operands(kernels, fprop_jobs<S>(layers), scratch);
    forward_by_tiles(kernels, layers, for_this_call, rows, input, outputs, tile);
  }
}

template <class S>
void forward(const std::vector<Layer<S>>& layers, int64_t rows, Matrix<const S> input,
             const std::vector<Matrix<S>>& outputs) {
  forward(active_kernels<S>(), layers, {}, rows, input, outputs);
}

#define PYFASTNN_INSTANTIATE(S)                                                         \
  template void forward(const std::vector<Layer<S>>&, int64_t, Matrix<const S>,         \
                        const std::vector<Matrix<S>>&);                                 \
  template void forward(const Kernels<S>&, const std::vector<Layer<S>>&,                \
                        const std::vector<PackedOperand<S>>&, int64_t, Matrix<const S>, \
                        const std::vector<Matrix<S>>&);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
