// TrainPlan on the CPU: tensors to pointers, one call of the engine for each batch.
#include <c10/util/Exception.h>

#include <cmath>
#include <type_traits>

#include "sparse_input.h"
#include "tensors.h"
#include "training.h"

namespace pyfastnn {
namespace {

engine::LossKind loss_kind(const std::string& name) {
  if (name == "cross_entropy") return engine::LossKind::kCrossEntropy;
  if (name == "mse") return engine::LossKind::kMse;
  TORCH_CHECK(name == "bce_with_logits", "TrainStep: unknown loss ", name);
  return engine::LossKind::kBceWithLogits;
}

double read_scalar(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? *tensor.const_data_ptr<double>()
                                             : *tensor.const_data_ptr<float>();
}

void add_one(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kDouble) {
    *tensor.mutable_data_ptr<double>() += 1;
  } else {
    *tensor.mutable_data_ptr<float>() += 1;
  }
}

}  // namespace

TrainPlan::TrainPlan(std::vector<PlannedParameter> parameters, std::vector<bool> relu,
                     const std::string& loss, bool mean, double label_smoothing,
                     int64_t ignore_index, const std::string& optimizer, bool compute_bfloat16)
    : parameters_(std::move(parameters)),
      relu_(std::move(relu)),
      loss_{loss_kind(loss), label_smoothing, ignore_index},
      mean_(mean),
      optimizer_(optimizer == "sgd" ? engine::OptimizerKind::kSgd : engine::OptimizerKind::kAdam),
      compute_bfloat16_(compute_bfloat16) {}

void TrainPlan::set_groups(const std::vector<std::vector<double>>& groups) {
  std::vector<engine::UpdateRule> rules;
  for (const std::vector<double>& g : groups) {
    engine::UpdateRule rule;
    rule.kind = optimizer_;
    rule.lr = g.at(0);
    rule.weight_decay = g.at(1);
    rule.maximize = g.at(2) != 0;
    if (optimizer_ == engine::OptimizerKind::kSgd) {
      rule.momentum = g.at(3);
      rule.dampening = g.at(4);
      rule.nesterov = g.at(5) != 0;
    } else {
      rule.beta1 = g.at(3);
      rule.beta2 = g.at(4);
      rule.eps = g.at(5);
      rule.decoupled = g.at(6) != 0;
    }
    rules.push_back(rule);
  }
  rules_ = std::move(rules);
}

bool TrainPlan::is_updated(const PlannedParameter& parameter) const {
  return parameter.group >= 0 && parameter.tensor.has_value() && parameter.tensor->requires_grad();
}

template <class P>
std::vector<engine::TrainedLayer<P>> TrainPlan::layers() const {
  std::vector<engine::TrainedLayer<P>> result;
  for (size_t l = 0; l < relu_.size(); ++l) {
    engine::Parameter<P> pair[2];
    for (size_t i = 0; i < 2; ++i) {
      const PlannedParameter& planned = parameters_[2 * l + i];
      if (!planned.tensor.has_value()) continue;
      pair[i].data = data<P>(*planned.tensor);
      pair[i].size = planned.tensor->numel();
      pair[i].needs_gradient = planned.tensor->requires_grad();
      pair[i].is_updated = is_updated(planned);
      if (!pair[i].is_updated) continue;
      pair[i].rule = rules_.at(planned.group);
      pair[i].rule.first = planned.first;
      if (planned.step.has_value()) pair[i].rule.step = read_scalar(*planned.step);
      for (size_t s = 0; s < planned.state.size(); ++s)
        pair[i].state[s] = data<P>(planned.state[s]);
    }
    const at::Tensor& weight = *parameters_[2 * l].tensor;
    const bool by_columns = !weight.is_contiguous();  // as check_parameters allows
    result.push_back({weight.size(1), weight.size(0), relu_[l], pair[0], pair[1], by_columns});
  }
  return result;
}

// x and target have plain rows.
template <class P>
engine::Batch<P> TrainPlan::batch_of(const TrainInput& x, const at::Tensor& target) const {
  engine::Batch<P> batch;
  batch.rows = x.rows();
  if (x.is_sparse()) {
    batch.sparse = SparseTensors(x.crow, x.col, x.values).input<P>(x.columns);
  } else {
    const at::ScalarType type = x.dense.scalar_type();
    batch.x = const_data<char>(x.dense);
    batch.ld = x.dense.stride(0);
    batch.kind = type == at::kByte       ? engine::InputKind::kBytes
                 : type == at::kBFloat16 ? engine::InputKind::kCompute
                                         : engine::InputKind::kParameters;
  }
  if (loss_.kind == engine::LossKind::kCrossEntropy) {
    batch.classes = const_data<int64_t>(target);
  } else {
    batch.targets = const_data<P>(target);
  }
  return batch;
}

// The rows of x; copied if they are also a parameter's, which changes while they are read.
TrainInput TrainPlan::rows_of(const TrainInput& x) const {
  if (x.is_sparse()) {  // a batch of it is read before it changes anything
    return {x.crow.contiguous(), x.col.contiguous(), x.values.resolve_neg().contiguous(),
            x.columns};
  }
  const at::Tensor rows = with_plain_rows(x.dense);
  for (const PlannedParameter& planned : parameters_) {
    if (is_updated(planned) && planned.tensor->storage().is_alias_of(rows.storage()))
      return rows.clone();
  }
  return rows;
}

void TrainPlan::begin_update() {
  for (PlannedParameter& planned : parameters_) {
    if (is_updated(planned) && planned.step.has_value()) add_one(*planned.step);
  }
}

void TrainPlan::end_update() {
  for (PlannedParameter& planned : parameters_) {
    if (!is_updated(planned)) continue;
    planned.first = false;
    planned.tensor->unsafeGetTensorImpl()->bump_version();
  }
}

// One update. With a limit for the norm the gradients have to be complete before the first of them
// is used.
template <class S>
double TrainPlan::train(std::vector<engine::TrainedLayer<engine::Accumulator<S>>>& layers,
                        const engine::Batch<engine::Accumulator<S>>& batch, double loss_scale,
                        std::optional<double> max_norm) {
  using P = engine::Accumulator<S>;
  if constexpr (std::is_same_v<S, P>) {
    if (batch.is_sparse()) {
      return engine::sparse_train_step<P>(layers, loss_, batch, loss_scale, absent_, max_norm);
    }
  }
  if (!max_norm.has_value()) {
    return engine::train_step<S>(layers, loss_, batch, loss_scale, nullptr);
  }
  std::vector<P> gradients(engine::gradient_count(layers));
  const double sum = engine::train_step<S>(layers, loss_, batch, loss_scale, gradients.data());
  const double norm = std::sqrt(engine::squared_norm<P>(layers, gradients.data()));
  engine::apply_gradients<P>(layers, gradients.data(), engine::clip_scale(norm, *max_norm));
  return sum;
}

at::Tensor TrainPlan::step(const TrainInput& x, const at::Tensor& target,
                           std::optional<double> max_norm) {
  check(x, target, /*allow_bytes=*/false);
  const TrainInput rows = rows_of(x);
  const at::Tensor targets = target.resolve_neg().contiguous();
  const double divisor = mean_ ? count(targets, nullptr, 0, rows.rows()) : 1;
  const at::Tensor result = at::detail::empty_cpu({}, at::TensorOptions().dtype(dtype()));
  const double loss = dispatch([&](auto tag) {
    using S = decltype(tag);
    using P = engine::Accumulator<S>;
    const engine::Batch<P> batch = batch_of<P>(rows, targets);
    begin_update();
    auto trained = layers<P>();
    return train<S>(trained, batch, 1 / divisor, max_norm) / divisor;
  });
  end_update();
  if (dtype() == at::kDouble) {
    *result.mutable_data_ptr<double>() = loss;
  } else {
    *result.mutable_data_ptr<float>() = static_cast<float>(loss);
  }
  return result;
}

int64_t TrainPlan::gradient_count() const {
  int64_t total = 0;
  for (const PlannedParameter& planned : parameters_) {
    if (planned.tensor.has_value() && planned.tensor->requires_grad())
      total += planned.tensor->numel();
  }
  return total;
}

BatchLoss TrainPlan::gradients(const at::Tensor& x, const at::Tensor& target,
                               const at::Tensor& gradients) {
  check(x, target, /*allow_bytes=*/false);
  const TrainInput rows = rows_of(x);
  const at::Tensor targets = target.resolve_neg().contiguous();
  const double sum = dispatch([&](auto tag) {
    using S = decltype(tag);
    using P = engine::Accumulator<S>;
    return engine::train_step<S>(layers<P>(), loss_, batch_of<P>(rows, targets), 1,
                                 data<P>(gradients));
  });
  return {sum, mean_ ? count(targets, nullptr, 0, rows.rows()) : 1};
}

void TrainPlan::apply(const at::Tensor& gradients, double grad_scale,
                      std::optional<double> max_norm) {
  begin_update();
  const auto update = [&](auto tag) {
    using P = decltype(tag);
    const auto trained = layers<P>();
    const P* values = data<P>(gradients);
    double scale = grad_scale;
    if (max_norm.has_value()) {
      const double norm = std::sqrt(engine::squared_norm<P>(trained, values)) * grad_scale;
      scale *= engine::clip_scale(norm, *max_norm);
    }
    engine::apply_gradients<P>(trained, values, scale);
  };
  dtype() == at::kDouble ? update(double{}) : update(float{});
  end_update();
}

#define PYFASTNN_INSTANTIATE(P)                                               \
  template std::vector<engine::TrainedLayer<P>> TrainPlan::layers<P>() const; \
  template engine::Batch<P> TrainPlan::batch_of<P>(const TrainInput&, const at::Tensor&) const;
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
#undef PYFASTNN_INSTANTIATE
#define PYFASTNN_INSTANTIATE(S)                                                                   \
  template double TrainPlan::train<S>(std::vector<engine::TrainedLayer<engine::Accumulator<S>>>&, \
                                      const engine::Batch<engine::Accumulator<S>>&, double,       \
                                      std::optional<double>);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(engine::BFloat16)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn
