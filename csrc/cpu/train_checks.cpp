// What TrainPlan expects of parameters, optimizer state and batches. Changes nothing.
#include <c10/util/Exception.h>

#include "../sparse_ops.h"
#include "tensors.h"
#include "training.h"

namespace pyfastnn {
namespace {

constexpr const char* kName = "TrainStep: ";

bool is_scalar(const at::Tensor& tensor) { return tensor.numel() == 1; }

}  // namespace

// Weights, with their state, may lie by columns.
void TrainPlan::check_parameters() const {
  int64_t features = parameters_[0].tensor->size(-1);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const PlannedParameter& planned = parameters_[i];
    if (!planned.tensor.has_value()) continue;
    const at::Tensor& tensor = *planned.tensor;
    const bool is_weight = i % 2 == 0;
    const char* kind = is_weight ? "weight" : "bias";
    const bool by_columns = is_weight && tensor.dim() == 2 && !tensor.is_contiguous();
    const auto lies_right = [&](const at::Tensor& t) {
      return is_plain(t) && (by_columns ? t.t() : t).is_contiguous() && !t.is_neg();
    };
    TORCH_CHECK(lies_right(tensor), kName, "expected the ", kind, " of layer ", i / 2,
                " to be a contiguous tensor on the CPU, or the transpose of one, got ",
                tensor.toString(), " of shape ", tensor.sizes(), " and strides ", tensor.strides());
    TORCH_CHECK(
        tensor.scalar_type() == dtype() && (dtype() == at::kFloat || dtype() == at::kDouble), kName,
        "expected all parameters to be float32 or all float64, got ", dtype(), " and ",
        tensor.scalar_type());
    const bool fits = is_weight ? tensor.dim() == 2 && tensor.size(1) == features
                                : tensor.dim() == 1 && tensor.size(0) == features;
    TORCH_CHECK(fits, kName, "expected the ", kind, " of layer ", i / 2, " of shape ",
                is_weight ? "[N, " : "[", features, "], got ", tensor.sizes());
    if (is_weight) features = tensor.size(0);
    TORCH_CHECK(!is_updated(planned) || !tensor.is_inference() || c10::InferenceMode::is_enabled(),
                kName, "the ", kind, " of layer ", i / 2,
                " was made in inference mode and can only be updated there");
    check_storage(tensor);
    for (const at::Tensor& state : planned.state) {
      TORCH_CHECK(
          state.sizes() == tensor.sizes() && state.scalar_type() == dtype() && lies_right(state),
          kName, "expected the optimizer's state of the ", kind, " of layer ", i / 2, " to be a ",
          dtype(), " tensor of shape ", tensor.sizes(), " and strides ", tensor.strides(),
          " like the ", kind, ", got ", state.scalar_type(), " of shape ", state.sizes(),
          " and strides ", state.strides());
      check_storage(state);
    }
    if (planned.step.has_value()) {
      const at::Tensor& step = *planned.step;
      TORCH_CHECK(is_scalar(step) && is_plain(step) &&
                      (step.scalar_type() == at::kFloat || step.scalar_type() == at::kDouble),
                  kName,
                  "expected the optimizer's step counter to be a float scalar on the CPU, got ",
                  step.scalar_type(), " of shape ", step.sizes());
    }
  }
  TORCH_CHECK(!compute_bfloat16_ || dtype() == at::kFloat, kName,
              "expected float32 parameters for compute_dtype bfloat16, got ", dtype());
}

void TrainPlan::check(const TrainInput& x, const at::Tensor& target, bool allow_bytes) const {
  TORCH_CHECK(!is_watched(), kName,
              "a step cannot be traced, nor run under a dispatch mode: neither would see it");
  check_parameters();
  if (x.is_sparse()) {
    check_sparse(x);
  } else {
    check_dense(x.dense, allow_bytes);
  }
  check_target(target, x.rows());
}

void TrainPlan::check_dense(const at::Tensor& x, bool allow_bytes) const {
  const int64_t in = parameters_[0].tensor->size(1);
  TORCH_CHECK(is_plain(x), kName,
              "expected x to be a dense tensor on the CPU, no subclass and not inside a transform, "
              "got ",
              x.toString());
  TORCH_CHECK(x.dim() == 2 && x.size(1) == in, kName, "expected x of shape [M, ", in, "], got ",
              x.sizes());
  const bool known = x.scalar_type() == dtype() ||
                     (compute_bfloat16_ && x.scalar_type() == at::kBFloat16) ||
                     (allow_bytes && x.scalar_type() == at::kByte);
  TORCH_CHECK(known, kName, "expected x of dtype ", dtype(), " like the parameters",
              allow_bytes ? " or uint8" : "", ", got ", x.scalar_type());
  TORCH_CHECK(!x.requires_grad(), kName,
              "expected x not to require grad: no gradient of the input is computed");
  check_storage(x);
}

void TrainPlan::check_sparse(const TrainInput& x) const {
  const int64_t in = parameters_[0].tensor->size(1);
  const SparseArgs args{kName, x.crow, x.col, x.values};
  TORCH_CHECK(
      !compute_bfloat16_, kName,
      "a sparse x is trained on in the dtype of the parameters: expected compute_dtype=None, "
      "got bfloat16");
  for (const at::Tensor& tensor : {x.crow, x.col, x.values}) {
    TORCH_CHECK(is_plain(tensor), kName,
                "expected indices and values of x to be dense tensors on the CPU, got ",
                tensor.toString());
    check_storage(tensor);
  }
  check_sparse_input(args);
  TORCH_CHECK(x.columns == in, kName, "expected x of shape [M, ", in, "], got [", x.rows(), ", ",
              x.columns, "]");
  TORCH_CHECK(x.values.scalar_type() == dtype(), kName, "expected x of dtype ", dtype(),
              " like the parameters, got ", x.values.scalar_type());
  TORCH_CHECK(!x.values.requires_grad(), kName,
              "expected x not to require grad: no gradient of the input is computed");
  check_sparse_indices(args, in);
}

void TrainPlan::check_target(const at::Tensor& target, int64_t rows) const {
  const int64_t out = parameters_[parameters_.size() - 2].tensor->size(0);
  TORCH_CHECK(is_plain(target), kName,
              "expected target to be a dense tensor on the CPU, no subclass and not inside a "
              "transform, got ",
              target.toString());
  TORCH_CHECK(!target.requires_grad(), kName, "expected target not to require grad");
  check_storage(target);
  if (loss_.kind == engine::LossKind::kCrossEntropy) {
    TORCH_CHECK(target.scalar_type() == at::kLong, kName,
                "expected target of dtype int64 (class indices), got ", target.scalar_type());
    TORCH_CHECK(target.dim() == 1 && target.size(0) == rows, kName, "expected target of shape [",
                rows, "] to match the rows of x, got ", target.sizes());
    const at::Tensor classes = target.resolve_neg().contiguous();
    const int64_t* value = classes.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < classes.numel(); ++i) {
      TORCH_CHECK((value[i] >= 0 && value[i] < out) || value[i] == loss_.ignore_index, kName,
                  "expected targets from 0 to ", out - 1, ", got ", value[i], " at index ", i);
    }
  } else {
    TORCH_CHECK(target.scalar_type() == dtype(), kName, "expected target of dtype ", dtype(),
                " like the parameters, got ", target.scalar_type());
    TORCH_CHECK(target.dim() == 2 && target.size(0) == rows && target.size(1) == out, kName,
                "expected target of shape [", rows, ", ", out, "] like the output, got ",
                target.sizes());
  }
}

double TrainPlan::count(const at::Tensor& target, const int64_t* index, int64_t first,
                        int64_t rows) const {
  if (loss_.kind != engine::LossKind::kCrossEntropy)
    return static_cast<double>(rows * parameters_[parameters_.size() - 2].tensor->size(0));
  const int64_t* classes = target.const_data_ptr<int64_t>();
  int64_t valid = 0;
  for (int64_t i = first; i < first + rows; ++i)
    valid += classes[index == nullptr ? i : index[i]] != loss_.ignore_index;
  return static_cast<double>(valid);
}

}  // namespace pyfastnn
