// One step of training: forward, loss, backward and the update of the parameters, without keeping
// more than a part of the batch at a time.
//
// S is the type that is computed with, P the type of parameters, gradients and optimizer state:
// equal, or bfloat16 and float. Results do not depend on the number of threads.
#pragma once

#include <vector>

#include "sparse_rows.h"
#include "training_kernels.h"

namespace pyfastnn::engine {

enum class OptimizerKind { kSgd, kAdam };

// How one parameter is updated in this step; the names and meanings of torch.optim.
struct UpdateRule {
  OptimizerKind kind = OptimizerKind::kSgd;
  double lr = 0, weight_decay = 0;
  bool maximize = false;
  double momentum = 0, dampening = 0;    // SGD
  bool nesterov = false, first = false;  // first: the momentum buffer starts as the gradient
  double beta1 = 0, beta2 = 0, eps = 0, step = 0;  // Adam; step counts this one
  bool decoupled = false;                          // AdamW
};

template <class P>
struct Parameter {
  P* data = nullptr;  // null: a layer without bias
  int64_t size = 0;
  bool needs_gradient = false;
  bool is_updated = false;
  UpdateRule rule{};
  P* state[2] = {nullptr, nullptr};  // SGD: momentum buffer. Adam: exp_avg, exp_avg_sq
  bool is_finite = false;            // known to have neither infinity nor NaN
};

// W [out, in] and b [out], contiguous; W in memory as [out, in], or by columns, as [in, out].
template <class P>
struct TrainedLayer {
  int64_t in, out;
  bool relu;
  Parameter<P> weight, bias;
  bool by_columns = false;
  bool needs_gradient() const { return weight.needs_gradient || bias.needs_gradient; }
};

struct Loss {
  LossKind kind = LossKind::kMse;
  double label_smoothing = 0;
  int64_t ignore_index = 0;
};

// kParameters: x has the type of the parameters; kCompute: S; kBytes: unsigned bytes.
enum class InputKind { kParameters, kCompute, kBytes };

// Row i of the batch is row index[i] of x and of the targets; without index row i.
template <class P>
struct Batch {
  int64_t rows = 0;
  const void* x = nullptr;
  int64_t ld = 0;
  InputKind kind = InputKind::kParameters;
  double scale = 1, shift = 0;  // x * scale + shift goes into the network
  const int64_t* index = nullptr;
  int64_t following = 0;             // rows that index has after these: those of the next batches
  const int64_t* classes = nullptr;  // for cross entropy
  const P* targets = nullptr;        // for the other losses: [rows, out of the last layer]
  const P* row_weights = nullptr;    // a row's loss is multiplied by its weight; null: 1
  SparseInput<P> sparse{};           // instead of x, if it has rows; see sparse_train.h
  // For layers above a sparse one: the rows of x lie in the order of the batch; the gradient of the
  // loss by them goes to dx, where x is not positive as 0 if masks_dx. P must be S.
  bool x_in_order = false, masks_dx = false;
  P* dx = nullptr;
  int64_t ld_dx = 0;
  bool is_sparse() const { return sparse.begin != nullptr; }
};

// Number of elements of all gradients that are needed: weight_0, bias_0, weight_1, ...
template <class P>
int64_t gradient_count(const std::vector<TrainedLayer<P>>& layers);

// Returns the sum of the losses of all elements. The gradients are those of loss_scale times that
// sum. They update the parameters at once, or, if `gradients` is given, are only stored there.
template <class S>
double train_step(const std::vector<TrainedLayer<Accumulator<S>>>& layers, const Loss& loss,
                  const Batch<Accumulator<S>>& batch, double loss_scale, Accumulator<S>* gradients);

// Sum of the squares of all weights, without the biases.
template <class P>
double squared_weights(const std::vector<TrainedLayer<P>>& layers);

template <class P>
double squared_norm(const std::vector<TrainedLayer<P>>& layers, const P* gradients);

// What gradients of this norm are multiplied by to have at most max_norm.
inline double clip_scale(double norm, double max_norm) {
  const double scale = max_norm / (norm + 1e-6);
  return scale > 1 ? 1 : scale;  // NaN stays
}

// Updates the parameters with gradients that were stored, times grad_scale.
template <class P>
void apply_gradients(const std::vector<TrainedLayer<P>>& layers, const P* gradients,
                     double grad_scale);

}  // namespace pyfastnn::engine
