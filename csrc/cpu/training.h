// A training step as the Python module sees it: the tensors of one model and its optimizer, and
// what to do with a batch. Tensors stop in cpu/train_step.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/sparse_train.h"

namespace pyfastnn {

// One weight or bias and where its optimizer keeps its state.
struct PlannedParameter {
  PlannedParameter() = default;
  PlannedParameter(std::optional<at::Tensor> tensor_, int64_t group_,
                   std::vector<at::Tensor> state_, std::optional<at::Tensor> step_, bool first_)
      : tensor(std::move(tensor_)),
        group(group_),
        state(std::move(state_)),
        step(std::move(step_)),
        first(first_) {}

  std::optional<at::Tensor> tensor;  // none: a layer without bias
  int64_t group = -1;                // of the optimizer; -1: not updated
  std::vector<at::Tensor> state;     // SGD: momentum buffer or nothing. Adam: exp_avg, exp_avg_sq
  std::optional<at::Tensor> step;    // Adam's counter, a scalar
  bool first = false;                // SGD: the buffer has no value yet
};

// Rows to train on, dense or sparse.
struct TrainInput {
  TrainInput(at::Tensor rows) : dense(std::move(rows)) {}  // NOLINT: tensors are inputs
  // By rows (CSR): crow [rows + 1], col and values [entries].
  TrainInput(at::Tensor crow_, at::Tensor col_, at::Tensor values_, int64_t columns_)
      : crow(std::move(crow_)),
        col(std::move(col_)),
        values(std::move(values_)),
        columns(columns_) {}
  bool is_sparse() const { return crow.defined(); }
  int64_t rows() const { return is_sparse() ? crow.size(0) - 1 : dense.size(0); }
  // Bytes from one element of dense rows to the next.
  int64_t element() const { return is_sparse() ? 0 : static_cast<int64_t>(dense.element_size()); }

  at::Tensor dense;
  at::Tensor crow, col, values;
  int64_t columns = 0;
};

// Sum of the losses of a batch and what to divide it by for the mean.
struct BatchLoss {
  double sum = 0, count = 0;
};

// How scikit-learn trains, where that is not how torch does. With n rows in a batch (or n, the sum
// of their weights), the gradient is that of loss_factor / n times the sum of all elements' losses
// plus alpha / (2 n) times the sum of all squared weights. Adam's epsilon is added to the root
// before its bias is corrected.
struct FitRules {
  int64_t batch_size;
  double alpha, loss_factor;
  double rate;  // SGD: gradients are multiplied by it, so that lr, and with it the unit of the
                // momentum buffers, may stay what it was; Adam: 1
};

// Means over the rows of an epoch: the losses (times weight / mean weight of the batch), summed
// over the outputs, and alpha / (2 n) times the squared weights, both before the update of each
// batch.
struct FitLoss {
  double loss = 0, penalty = 0;
};

class TrainPlan {
 public:
  // parameters: weight_0, bias_0, weight_1, ...; loss: "cross_entropy", "mse" or
  // "bce_with_logits"; optimizer: "sgd" or "adam".
  TrainPlan(std::vector<PlannedParameter> parameters, std::vector<bool> relu,
            const std::string& loss, bool mean, double label_smoothing, int64_t ignore_index,
            const std::string& optimizer, bool compute_bfloat16);

  // One UpdateRule for each group, as the numbers of torch's param_groups. SGD: lr, weight_decay,
  // maximize, momentum, dampening, nesterov. Adam: lr, weight_decay, maximize, beta1, beta2, eps,
  // decoupled.
  void set_groups(const std::vector<std::vector<double>>& groups);

  // What sparse rows do to the columns of the first weight that they lack.
  void set_lazy(bool lazy) {
    absent_ = lazy ? engine::AbsentColumns::kLazy : engine::AbsentColumns::kExact;
  }

  // The loss of the batch, a scalar; parameters and optimizer state are updated.
  at::Tensor step(const TrainInput& x, const at::Tensor& target, std::optional<double> max_norm);

  // The same in two halves: gradients of the summed loss to `gradients` (gradient_count() long),
  // then the update with grad_scale times them, clipped to max_norm.
  BatchLoss gradients(const at::Tensor& x, const at::Tensor& target, const at::Tensor& gradients);
  void apply(const at::Tensor& gradients, double grad_scale, std::optional<double> max_norm);
  int64_t gradient_count() const;

  // One pass over X in batches of the rows in `order` (none: as they lie); the mean loss of a
  // sample. Everything is checked before the first update.
  double run_epoch(const TrainInput& x, const at::Tensor& target,
                   const std::optional<at::Tensor>& order, int64_t batch_size, bool drop_last,
                   double scale, double shift, std::optional<double> max_norm);

  // The same for scikit-learn's estimators; the plan must not compute in bfloat16.
  FitLoss fit_epoch(const TrainInput& x, const at::Tensor& target,
                    const std::optional<at::Tensor>& order,
                    const std::optional<at::Tensor>& row_weights, const FitRules& rules);

  // All that run_epoch checks.
  void check(const TrainInput& x, const at::Tensor& target, bool allow_bytes) const;

 private:
  // body(tag) with the type that is computed with.
  template <class Body>
  auto dispatch(const Body& body) const {
    if (compute_bfloat16_) return body(engine::BFloat16{});
    if (dtype() == at::kDouble) return body(double{});
    return body(float{});
  }
  template <class P>
  std::vector<engine::TrainedLayer<P>> layers() const;
  template <class P>
  engine::Batch<P> batch_of(const TrainInput& x, const at::Tensor& target) const;
  template <class P>
  engine::Batch<P> slice(engine::Batch<P> all, int64_t element, int64_t first, int64_t rows) const;
  TrainInput rows_of(const TrainInput& x) const;
  double count(const at::Tensor& target, const int64_t* index, int64_t first, int64_t rows) const;
  template <class S>
  double train(std::vector<engine::TrainedLayer<engine::Accumulator<S>>>& layers,
               const engine::Batch<engine::Accumulator<S>>& batch, double loss_scale,
               std::optional<double> max_norm);
  template <class P>
  double fit_batch(std::vector<engine::TrainedLayer<P>>& layers, const engine::Batch<P>& batch,
                   double loss_scale, double* squares);
  template <class P>
  FitLoss fit(const engine::Batch<P>& all, int64_t element, const FitRules& rules);
  void check_parameters() const;
  void check_dense(const at::Tensor& x, bool allow_bytes) const;
  void check_sparse(const TrainInput& x) const;
  void check_target(const at::Tensor& target, int64_t rows) const;
  void begin_update();
  void end_update();
  at::ScalarType dtype() const { return parameters_[0].tensor->scalar_type(); }
  bool is_updated(const PlannedParameter& parameter) const;

  std::vector<PlannedParameter> parameters_;
  std::vector<bool> relu_;
  engine::Loss loss_;
  bool mean_;
  engine::OptimizerKind optimizer_;
  bool compute_bfloat16_;
  engine::AbsentColumns absent_ = engine::AbsentColumns::kExact;
  std::vector<engine::UpdateRule> rules_;
};

}  // namespace pyfastnn
