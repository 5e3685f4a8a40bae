#include "sparse_train.h"

#include <cmath>

#include "loss_rows.h"
#include "sparse_first_layer.h"

namespace pyfastnn::engine {
namespace {

// First the sparse layer for all rows, then the others as a network of their own, which hands back
// the gradient of its input, then the sparse layer's gradient.
template <class P>
class SparseStep {
 public:
  SparseStep(const std::vector<TrainedLayer<P>>& layers, const Loss& loss, const Batch<P>& batch,
             double loss_scale, AbsentColumns absent, Scratch& scratch)
      : first_layer_(layers[0]),
        upper_(layers.begin() + 1, layers.end()),
        loss_(loss),
        batch_(batch),
        loss_scale_(loss_scale),
        scratch_(scratch),
        first_(layers[0], batch, absent, scratch),
        output_(take_rows()),
        dz_(take_rows()) {}

  double run(std::optional<double> max_norm, double* squared_weights) {
    first_.forward(output_);
    std::vector<P> kept(max_norm.has_value() ? gradient_count(upper_) : 0);
    P* gradients = max_norm.has_value() ? kept.data() : nullptr;
    const double sum = upper_.empty() ? run_loss() : run_upper_layers(gradients);
    first_.backward(as_const(dz_));
    double scale = 1;
    if (max_norm.has_value()) {
      const double squares = first_.squared_norm() + squared_norm<P>(upper_, gradients);
      scale = clip_scale(std::sqrt(squares), *max_norm);
      apply_gradients<P>(upper_, gradients, scale);
    }
    const double squares = first_.update(scale, squared_weights != nullptr);
    if (squared_weights != nullptr) *squared_weights = squares;
    return sum;
  }

 private:
  Matrix<P> take_rows() {
    const int64_t ld = scratch_ld<P>(first_layer_.out);
    return {scratch_.take_array<P>(batch_.rows * ld), ld};
  }

  double run_upper_layers(P* gradients) {
    Batch<P> rest = batch_;
    rest.sparse = {};
    rest.x = output_.data;
    rest.ld = output_.ld;
    rest.x_in_order = true;
    if (first_layer_.needs_gradient()) {
      rest.dx = dz_.data;
      rest.ld_dx = dz_.ld;
      rest.masks_dx = first_layer_.relu;
    }
    return train_step<P>(upper_, loss_, rest, loss_scale_, gradients);
  }

  // The sparse layer is the only one.
  double run_loss() {
    double* losses = scratch_.take_array<double>(batch_.rows);
    const int64_t out = first_layer_.out;
    loss_of_rows<P>(loss_, batch_, {0, batch_.rows}, out, loss_scale_, output_, dz_, losses);
    if (first_layer_.relu)
      active_kernels<P>().mask_rows(dz_.data, dz_.ld, output_.data, output_.ld, batch_.rows, out,
                                    dz_.data, dz_.ld);
    double sum = 0;
    for (int64_t i = 0; i < batch_.rows; ++i) sum += losses[i];
    return sum;
  }

  const TrainedLayer<P>& first_layer_;
  const std::vector<TrainedLayer<P>> upper_;
  const Loss& loss_;
  const Batch<P>& batch_;
  const double loss_scale_;
  Scratch& scratch_;
  SparseFirstLayer<P> first_;
  const Matrix<P> output_, dz_;  // [rows of the batch, out]
};

}  // namespace

template <class P>
double sparse_train_step(const std::vector<TrainedLayer<P>>& layers, const Loss& loss,
                         const Batch<P>& batch, double loss_scale, AbsentColumns absent,
                         std::optional<double> max_norm, double* squared_weights) {
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  return SparseStep<P>(layers, loss, batch, loss_scale, absent, scratch)
      .run(max_norm, squared_weights);
}

#define PYFASTNN_INSTANTIATE(P)                                                                    \
  template double sparse_train_step(const std::vector<TrainedLayer<P>>&, const Loss&,              \
                                    const Batch<P>&, double, AbsentColumns, std::optional<double>, \
                                    double*);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
