// The update of a block of one parameter by its optimizer.
#pragma once

#include <cmath>

#include "train.h"

namespace pyfastnn::engine {

// The block is `rows` rows of n elements that start at `offset` and lie ld apart in the parameter
// and its state. The squares of its elements before the update are added to `squares`, unless null.
template <class P>
void update_block(const Parameter<P>& parameter, int64_t offset, int64_t rows, int64_t n,
                  int64_t ld, const Gradient<P>& gradient, double grad_scale,
                  double* squares = nullptr) {
  const UpdateRule& rule = parameter.rule;
  const TrainingKernels<P>& kernels = active_training_kernels<P>();
  const double sign = rule.maximize ? -1 : 1;
  const UpdateBlock<P> block{rows, n, ld, gradient, static_cast<P>(sign * grad_scale), squares};
  if (rule.kind == OptimizerKind::kSgd) {
    SgdArgs<P> args{};
    args.block = block;
    args.p = parameter.data + offset;
    args.buffer = parameter.state[0] == nullptr ? nullptr : parameter.state[0] + offset;
    args.first = rule.first;
    args.nesterov = rule.nesterov;
    args.lr = static_cast<P>(rule.lr);
    args.weight_decay = static_cast<P>(rule.weight_decay);
    args.momentum = static_cast<P>(rule.momentum);
    args.dampening = static_cast<P>(rule.dampening);
    kernels.sgd(args);
    return;
  }
  AdamArgs<P> args{};
  args.block = block;
  args.p = parameter.data + offset;
  args.exp_avg = parameter.state[0] + offset;
  args.exp_avg_sq = parameter.state[1] + offset;
  args.decay = static_cast<P>(rule.decoupled ? 1 - rule.lr * rule.weight_decay : 1);
  args.weight_decay = static_cast<P>(rule.decoupled ? 0 : rule.weight_decay);
  args.beta2 = static_cast<P>(rule.beta2);
  args.one_minus_beta1 = static_cast<P>(1 - rule.beta1);
  args.one_minus_beta2 = static_cast<P>(1 - rule.beta2);
  args.eps = static_cast<P>(rule.eps);
  args.step_size = static_cast<P>(rule.lr / (1 - std::pow(rule.beta1, rule.step)));
  args.inverse_bias2_sqrt = static_cast<P>(1 / std::sqrt(1 - std::pow(rule.beta2, rule.step)));
  kernels.adam(args);
}

}  // namespace pyfastnn::engine
