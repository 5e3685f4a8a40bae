// The loss of some rows of a batch, and its derivative.
#pragma once

#include <type_traits>

#include "network.h"
#include "k_blocks.h"
#include "train.h"

namespace pyfastnn::engine {

// Multiplies losses and dZ of the rows by their weights, where they have some.
template <class S>
void weigh_rows(const Batch<Accumulator<S>>& batch, int64_t first, const LossArgs<S>& args) {
  if (batch.row_weights == nullptr) return;
  for (int64_t i = 0; i < args.rows; ++i) {
    const int64_t row = batch.index == nullptr ? first + i : batch.index[first + i];
    const Accumulator<S> weight = batch.row_weights[row];
    args.losses[i] *= static_cast<double>(weight);
    for (int64_t j = 0; j < args.n; ++j) args.dz[i * args.ld_dz + j] *= weight;
  }
}

// `rows` of the batch, whose outputs are z [rows, n]: dZ, which may be z, and the losses.
template <class S>
void loss_of_rows(const Loss& loss, const Batch<Accumulator<S>>& batch, Range rows, int64_t n,
                  double scale, Matrix<S> z, Matrix<S> dz, double* losses) {
  LossArgs<S> args{};
  args.rows = rows.size();
  args.n = n;
  args.z = z.data;
  args.ld_z = z.ld;
  args.dz = dz.data;
  args.ld_dz = dz.ld;
  args.index = batch.index == nullptr ? nullptr : batch.index + rows.begin;
  const int64_t skipped = batch.index == nullptr ? rows.begin : 0;
  args.classes = batch.classes == nullptr ? nullptr : batch.classes + skipped;
  args.targets = batch.targets == nullptr ? nullptr : batch.targets + skipped * n;
  args.scale = scale;
  args.label_smoothing = loss.label_smoothing;
  args.ignore_index = loss.ignore_index;
  args.losses = losses;
  active_training_kernels<S>().loss[static_cast<int>(loss.kind)](args);
  if constexpr (std::is_same_v<S, Accumulator<S>>) weigh_rows<S>(batch, rows.begin, args);
}

}  // namespace pyfastnn::engine
