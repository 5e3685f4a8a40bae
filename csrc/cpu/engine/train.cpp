#include "train.h"

#include <algorithm>
#include <type_traits>

#include "batch_rows.h"
#include "loss_rows.h"
#include "passes.h"
#include "schedule.h"
#include "weight_pass.h"

namespace pyfastnn::engine {
namespace {

// Outputs and dZ of all layers for the rows that are taken at a time should stay in so much of the
// L2 cache. The number of rows depends on the shapes alone, since it is part of the order of sums.
constexpr int64_t kPartBytes = 1536 * 1024;
constexpr int64_t kSmallestPart = 512, kLargestPart = 4096;

template <class S>
class Step {
  using P = Accumulator<S>;

 public:
  Step(const std::vector<TrainedLayer<P>>& layers, const Loss& loss, const Batch<P>& batch,
       double loss_scale, P* gradients, Scratch& scratch)
      : layers_(layers),
        loss_(loss),
        batch_(batch),
        loss_scale_(loss_scale),
        scratch_(scratch),
        input_(batch, layers[0].in),
        kept_(gradients),
        top_(static_cast<int64_t>(layers.size()) - 1) {}

  double run() {
    while (low_ <= top_ && !layers_[low_].needs_gradient() && batch_.dx == nullptr) ++low_;
    part_rows_ = std::min(batch_.rows, rows_of_part());
    const int64_t parts =
        std::max<int64_t>(1, divide_up(batch_.rows, std::max<int64_t>(1, part_rows_)));
    reserve(parts);
    plan_tiles();
    double sum = 0;
    for (part_ = 0; part_ < parts; ++part_) {
      begin_ = part_ * part_rows_;
      rows_ = std::min(batch_.rows - begin_, part_rows_);
      input_.begin_part(begin_, rows_);
      run_rows();
      for (int64_t i = 0; i < rows_; ++i) sum += losses_[i];
      WeightPass<S>({kernels_, layers_, net_, inputs(), dz_, sums_, bias_sums_, low_, rows_,
                     part_ * row_blocks(kernels_, part_rows_).count, part_ == 0, part_ + 1 == parts,
                     kept_ == nullptr})
          .run();
    }
    return sum;
  }

 private:
  int64_t rows_of_part() const {
    int64_t width = 0;
    for (const auto& layer : layers_) width += layer.in + layer.out;
    const int64_t rows = kPartBytes / (width * static_cast<int64_t>(sizeof(S)));
    return std::clamp<int64_t>(rows / 256 * 256, kSmallestPart, kLargestPart);
  }

  Matrix<S> take_rows(int64_t rows, int64_t columns) {
    const int64_t ld = scratch_ld<S>(columns);
    return {scratch_.take_array<S>(rows * ld), ld};
  }

  void reserve(int64_t parts) {
    for (int64_t l = 0; l <= top_; ++l) {
      net_.push_back(computed(l));
      outputs_.push_back(take_rows(part_rows_, layers_[l].out));
      const bool own = l < top_ || layers_[top_].relu;
      dz_.push_back(l < low_ ? Matrix<S>{}
                    : own    ? take_rows(part_rows_, layers_[l].out)
                             : outputs_[l]);
      const int64_t blocks = parts * row_blocks(kernels_, part_rows_).count;
      bias_sums_.push_back(layers_[l].bias.needs_gradient
                               ? scratch_.take_array<P>(blocks * layers_[l].out)
                               : nullptr);
    }
    losses_ = scratch_.take_array<double>(part_rows_);
    input_.reserve(part_rows_, scratch_ld<S>(layers_[0].in), scratch_);
    // Gradients are kept if the caller wants them, or while they are summed over several parts.
    P* next = kept_ != nullptr ? kept_
              : parts > 1      ? scratch_.take_array<P>(gradient_count(layers_))
                               : nullptr;
    for (const auto& layer : layers_) {
      for (const Parameter<P>* parameter : {&layer.weight, &layer.bias}) {
        const bool has = next != nullptr && parameter->needs_gradient;
        sums_.push_back(has ? next : nullptr);
        if (has) next += parameter->size;
      }
    }
  }

  // The layer in the type that is computed with.
  Layer<S> computed(int64_t l) {
    const TrainedLayer<P>& layer = layers_[l];
    const S* bias;
    Operand<S> weight{nullptr, layer.by_columns ? layer.out : layer.in,
                      layer.by_columns ? Layout::kColumns : Layout::kRows};
    if constexpr (std::is_same_v<S, P>) {
      weight.data = layer.weight.data;
      weight.is_finite = layer.weight.is_finite;
      bias = layer.bias.data;
    } else {
      weight.data = rounded(layer.weight.data, layer.out * layer.in);
      bias = layer.bias.data == nullptr ? nullptr : rounded(layer.bias.data, layer.out);
    }
    return {weight, bias, layer.in, layer.out, layer.relu};
  }

  const S* rounded(const P* values, int64_t count) {
    S* result = scratch_.take_array<S>(count);
    const int threads = threads_for(8 * count);
    parallel_tasks(threads, threads, [&](int64_t task) {
      const Range range = part(count, 64, threads, task);
      kernels_.round(values + range.begin, range.size(), result + range.begin);
    });
    return result;
  }

  // ---- forward, loss and data gradients: rows do not know each other ----

  int64_t work_of_rows() const {
    int64_t work = 0;
    for (int64_t l = 0; l <= top_; ++l)
      work += (l >= lowest_dgrad() ? 2 : 1) * gemm_work(part_rows_, layers_[l].out, layers_[l].in);
    return work;
  }

  // Row tile by row tile through all layers, with weights packed once; or, for one tile, layer by
  // layer.
  void plan_tiles() {
    // Weights are packed in a parallel region of their own: there has to be work for two.
    threads_ = threads_for(work_of_rows() / 2);
    tile_ = std::min(tile_rows(kernels_, layers_, kFpropOrder),
                     tile_rows(kernels_, layers_, Order::kAscending));
    // Two threads share even one tile, so that they need not wait for each other after each layer.
    const int64_t shared = 2 * threads_ * kernels_.max_rows[kPanelVectors] - 1;
    by_tiles_ = goes_by_tiles(kernels_, layers_, part_rows_,
                              threads_ > 1 ? std::min(tile_, shared) : tile_);
    if (!by_tiles_) return;
    std::vector<PackJob<S>> jobs = fprop_jobs<S>(net_);
    for (int64_t l = lowest_dgrad(); l <= top_; ++l)
      jobs.push_back({net_[l].weight, net_[l].out, net_[l].in});
    packed_ = pack_operands(kernels_, jobs, scratch_);
  }

  void run_rows() {
    if (!by_tiles_) {
      run_tile({0, rows_});
      return;
    }
    const int64_t step = balanced_tile(kernels_, rows_, tile_, threads_);
    parallel_tasks(divide_up(rows_, step), threads_, [&](int64_t task) {
      run_tile({task * step, std::min(rows_, (task + 1) * step)});
    });
  }

  void run_tile(Range rows) {
    if (rows.size() <= 0) return;
    if (input_.gathers()) input_.gather(rows);
    for (int64_t l = 0; l <= top_; ++l) {
      Gemm<S> args = fprop(net_[l], rows.size(), rows_from(input_of(l), rows.begin),
                           rows_from(outputs_[l], rows.begin));
      if (l == 0) input_.fetch_ahead(args, rows.begin);
      multiply(args, l);
    }
    run_loss(rows);
    for (int64_t l = top_; l >= lowest_dgrad(); --l) {
      const Matrix<const S> below = rows_from(input_of(l), rows.begin);
      const bool masks = l == 0 ? batch_.masks_dx : layers_[l - 1].relu;
      const Matrix<S> dx = rows_from(l == 0 ? input_gradient() : dz_[l - 1], rows.begin);
      multiply(dgrad(net_[l], rows.size(), as_const(rows_from(dz_[l], rows.begin)), dx,
                     masks ? below : Matrix<const S>{}),
               top_ + 1 + l - lowest_dgrad());
    }
  }

  // Layers from this one on hand a gradient down.
  int64_t lowest_dgrad() const { return batch_.dx != nullptr ? 0 : low_ + 1; }

  // Of the rows of the part.
  Matrix<S> input_gradient() const {
    if constexpr (std::is_same_v<S, P>) return {batch_.dx + begin_ * batch_.ld_dx, batch_.ld_dx};
    return {};
  }

  void multiply(Gemm<S> args, int64_t job) {
    if (!by_tiles_) {
      gemm_by_columns(kernels_, args);
      return;
    }
    args.b_packed = &packed_[job];
    gemm(kernels_, args, {0, args.m}, {0, args.n});
  }

  void run_loss(Range rows) {
    const Matrix<S> z = rows_from(outputs_[top_], rows.begin);
    const Matrix<S> dz = low_ > top_ ? z : rows_from(dz_[top_], rows.begin);
    const int64_t n = layers_[top_].out;
    loss_of_rows<S>(loss_, batch_, {begin_ + rows.begin, begin_ + rows.end}, n, loss_scale_, z, dz,
                    losses_ + rows.begin);
    if (layers_[top_].relu && low_ <= top_)
      kernels_.mask_rows(dz.data, dz.ld, z.data, z.ld, rows.size(), n, dz.data, dz.ld);
  }

  // ---- input ----

  Matrix<const S> input_of(int64_t l) const {
    if (l > 0) return as_const(outputs_[l - 1]);
    return input_.matrix();
  }

  std::vector<Matrix<const S>> inputs() const {
    std::vector<Matrix<const S>> result;
    for (int64_t l = 0; l <= top_; ++l) result.push_back(input_of(l));
    return result;
  }

  const Kernels<S>& kernels_ = active_kernels<S>();
  const std::vector<TrainedLayer<P>>& layers_;
  const Loss& loss_;
  const Batch<P>& batch_;
  const double loss_scale_;
  Scratch& scratch_;
  BatchRows<S> input_;
  P* const kept_;
  const int64_t top_;
  int64_t low_ = 0;  // the lowest layer that needs a gradient
  int64_t part_rows_ = 0;
  std::vector<Layer<S>> net_;
  std::vector<Matrix<S>> outputs_, dz_;  // [part_rows, out_l]
  std::vector<P*> bias_sums_;            // [blocks of all rows, out_l]
  std::vector<P*> sums_;      // weight_0, bias_0, weight_1, ...: gradients that are kept, or null
  double* losses_ = nullptr;  // [part_rows]
  int threads_ = 1;
  int64_t tile_ = 0;
  bool by_tiles_ = false;
  std::vector<PackedOperand<S>>
      packed_;  // for fprop of all layers, then for dgrad of lowest_dgrad(), ...
  int64_t part_ = 0, begin_ = 0, rows_ = 0;
};

}  // namespace

template <class S>
double train_step(const std::vector<TrainedLayer<Accumulator<S>>>& layers, const Loss& loss,
                  const Batch<Accumulator<S>>& batch, double loss_scale,
                  Accumulator<S>* gradients) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  return Step<S>(layers, loss, batch, loss_scale, gradients, scratch).run();
}

#define PYFASTNN_INSTANTIATE(S)                                                                \
  template double train_step<S>(const std::vector<TrainedLayer<Accumulator<S>>>&, const Loss&, \
                                const Batch<Accumulator<S>>&, double, Accumulator<S>*);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
