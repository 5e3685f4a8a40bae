// A training step whose first layer reads sparse rows. Its weights are read and its gradient is
// made for the columns that are present in the batch.
#pragma once

#include <optional>

#include "train.h"

namespace pyfastnn::engine {

// What becomes of weights, and of their optimizer's state, in columns that are absent.
enum class AbsentColumns {
  kExact,  // what a gradient of zero does to them: the result is that of dense data
  kLazy    // nothing, as torch.optim.SparseAdam
};

// As train_step, and the update with it; batch.is_sparse(). The gradients are clipped to max_norm.
// squared_weights, unless null: the sum of the squares of the first weight before the update.
template <class P>
double sparse_train_step(const std::vector<TrainedLayer<P>>& layers, const Loss& loss,
                         const Batch<P>& batch, double loss_scale, AbsentColumns absent,
                         std::optional<double> max_norm, double* squared_weights = nullptr);

}  // namespace pyfastnn::engine
