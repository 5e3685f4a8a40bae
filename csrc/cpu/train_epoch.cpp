// TrainPlan over a whole data set, batch by batch: as torch trains, and as scikit-learn does.
#include <c10/util/Exception.h>

#include <cmath>

#include "tensors.h"
#include "training.h"

namespace pyfastnn {
namespace {

const int64_t* indices_of(const std::optional<at::Tensor>& order) {
  if (!order.has_value()) return nullptr;
  TORCH_CHECK(order->device().is_cpu(), "TrainStep: expected order on the CPU");
  return order->const_data_ptr<int64_t>();
}

// The weights of a batch, added up in the order of its rows.
template <class P>
double sum_of_weights(const engine::Batch<P>& batch) {
  if (batch.row_weights == nullptr) return static_cast<double>(batch.rows);
  double sum = 0;
  for (int64_t i = 0; i < batch.rows; ++i)
    sum += static_cast<double>(batch.row_weights[batch.index == nullptr ? i : batch.index[i]]);
  TORCH_CHECK_VALUE(sum != 0, "the sample weights of a batch sum to zero");
  return sum;
}

}  // namespace

// Rows first, ..., first + rows - 1 of the order, or of the data as they lie. `element`: bytes of
// an element of x.
template <class P>
engine::Batch<P> TrainPlan::slice(engine::Batch<P> all, int64_t element, int64_t first,
                                  int64_t rows) const {
  all.following = all.rows - first - rows;
  all.rows = rows;
  if (all.index != nullptr) {
    all.index += first;
    return all;
  }
  const int64_t out = parameters_[parameters_.size() - 2].tensor->size(0);
  if (all.is_sparse()) {
    all.sparse = all.sparse.from_row(first);
  } else {
    all.x = static_cast<const char*>(all.x) + first * all.ld * element;
  }
  if (all.classes != nullptr) all.classes += first;
  if (all.targets != nullptr) all.targets += first * out;
  if (all.row_weights != nullptr) all.row_weights += first;
  return all;
}

double TrainPlan::run_epoch(const TrainInput& x, const at::Tensor& target,
                            const std::optional<at::Tensor>& order, int64_t batch_size,
                            bool drop_last, double scale, double shift,
                            std::optional<double> max_norm) {
  check(x, target, /*allow_bytes=*/true);
  TORCH_CHECK(!x.is_sparse() || (scale == 1 && shift == 0),
              "TrainStep: expected scale=1 and shift=0 for a sparse X, got ", scale, " and ",
              shift);
  const TrainInput rows = rows_of(x);
  const at::Tensor targets = target.resolve_neg().contiguous();
  const int64_t* index = indices_of(order);
  const int64_t total = order.has_value() ? order->numel() : rows.rows();
  double sum = 0, samples = 0;
  dispatch([&](auto tag) {
    using S = decltype(tag);
    using P = engine::Accumulator<S>;
    engine::Batch<P> all = batch_of<P>(rows, targets);
    all.index = index;
    all.rows = total;
    all.scale = scale;
    all.shift = shift;
    const int64_t out = parameters_[parameters_.size() - 2].tensor->size(0);
    for (int64_t first = 0; first < total; first += batch_size) {
      const int64_t count_of_rows = std::min(batch_size, total - first);
      if (drop_last && count_of_rows < batch_size) break;
      const auto batch = slice(all, x.element(), first, count_of_rows);
      const double values = count(targets, index, first, batch.rows);
      begin_update();
      auto trained = layers<P>();
      const double loss = train<S>(trained, batch, mean_ ? 1 / values : 1, max_norm);
      end_update();
      sum += mean_ && loss_.kind != engine::LossKind::kCrossEntropy
                 ? loss / static_cast<double>(out)
                 : loss;
      samples +=
          loss_.kind == engine::LossKind::kCrossEntropy ? values : static_cast<double>(batch.rows);
    }
    return 0;
  });
  return sum / samples;
}

FitLoss TrainPlan::fit_epoch(const TrainInput& x, const at::Tensor& target,
                             const std::optional<at::Tensor>& order,
                             const std::optional<at::Tensor>& row_weights, const FitRules& rules) {
  check(x, target, /*allow_bytes=*/false);
  const TrainInput rows = rows_of(x);
  const at::Tensor targets = target.contiguous();
  const auto run = [&](auto tag) {
    using P = decltype(tag);
    engine::Batch<P> all = batch_of<P>(rows, targets);
    all.index = indices_of(order);
    if (order.has_value()) all.rows = order->numel();
    if (row_weights.has_value()) all.row_weights = const_data<P>(*row_weights);
    return fit(all, x.element(), rules);
  };
  return dtype() == at::kDouble ? run(double{}) : run(float{});
}

// `squares` receives the sum of the squares of all weights before the update, unless it is null.
template <class P>
double TrainPlan::fit_batch(std::vector<engine::TrainedLayer<P>>& layers,
                            const engine::Batch<P>& batch, double loss_scale, double* squares) {
  if (!batch.is_sparse()) {
    if (squares != nullptr) {
      *squares = engine::squared_weights(layers);
      for (auto& layer : layers) layer.weight.is_finite = std::isfinite(*squares);
    }
    return train<P>(layers, batch, loss_scale, std::nullopt);
  }
  if (squares == nullptr)
    return engine::sparse_train_step<P>(layers, loss_, batch, loss_scale, absent_, std::nullopt);
  const double upper = engine::squared_weights<P>({layers.begin() + 1, layers.end()});
  const double loss = engine::sparse_train_step<P>(layers, loss_, batch, loss_scale, absent_,
                                                   std::nullopt, squares);
  *squares += upper;
  return loss;
}

template <class P>
FitLoss TrainPlan::fit(const engine::Batch<P>& all, int64_t element, const FitRules& rules) {
  FitLoss sum;
  for (int64_t first = 0; first < all.rows; first += rules.batch_size) {
    const auto batch = slice(all, element, first, std::min(rules.batch_size, all.rows - first));
    const double n = sum_of_weights(batch), rows = static_cast<double>(batch.rows);
    begin_update();
    auto trained = layers<P>();
    for (auto& layer : trained) {
      layer.weight.rule.weight_decay = rules.rate * rules.alpha / n;
      for (engine::UpdateRule* rule : {&layer.weight.rule, &layer.bias.rule})
        if (optimizer_ == engine::OptimizerKind::kAdam)
          rule->eps /= std::sqrt(1 - std::pow(rule->beta2, rule->step));
    }
    double squares = 0;
    sum.loss += rows / n *
                fit_batch(trained, batch, rules.rate * rules.loss_factor / n,
                          rules.alpha != 0 ? &squares : nullptr);
    sum.penalty += rows * (rules.alpha / (2 * n)) * squares;
    end_update();
  }
  const double rows = static_cast<double>(all.rows);
  return {sum.loss / rows, sum.penalty / rows};
}

}  // namespace pyfastnn
