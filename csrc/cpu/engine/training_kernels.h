// The part of an instruction set that only training needs: losses, optimizers, rows of data.
//
// S is the type that is computed with, P = Accumulator<S> the type of parameters and of sums.
#pragma once

#include "kernels.h"

namespace pyfastnn::engine {

enum class LossKind { kCrossEntropy, kMse, kBceWithLogits };

// Rows [0, rows) of a loss. Writes each row's sum of losses and, rounded to S, scale times its
// derivative. `index` chooses the rows of the targets; null: in order.
template <class S>
struct LossArgs {
  int64_t rows, n;
  const S* z;  // [rows, n] outputs of the network
  int64_t ld_z;
  S* dz;  // [rows, n]; may be z
  int64_t ld_dz;
  const int64_t* classes;         // cross entropy: [total rows]; ignore_index or in [0, n)
  const Accumulator<S>* targets;  // the others: [total rows, n]
  const int64_t* index;
  double scale, label_smoothing;
  int64_t ignore_index;
  double* losses;  // [rows]
};

// The gradient of a block [rows, n] of a parameter: as it lies, or, where it is a product of so few
// rows of the batch that writing it down would cost more than itself, left^T right.
template <class P>
struct Gradient {
  const P* data;  // null: the product
  int64_t ld;
  int64_t batch_rows = 0;
  const P* left = nullptr;  // [batch_rows, rows]
  int64_t ld_left = 0;
  const P* right = nullptr;  // [batch_rows, n]
  int64_t ld_right = 0;
};

// `rows` rows of n elements, ld apart in the parameter and its state. Gradients are scaled by
// grad_scale (negative: maximize) before anything else.
template <class P>
struct UpdateBlock {
  int64_t rows, n, ld;
  Gradient<P> gradient;
  P grad_scale;
  double* squares;  // the squares of the parameters before the update are added to it; or null
};

template <class P>
struct SgdArgs {
  UpdateBlock<P> block;
  P* p;
  P* buffer;   // momentum, or null
  bool first;  // the buffer starts as the gradient
  bool nesterov;
  P lr, weight_decay, momentum, dampening;
};

template <class P>
struct AdamArgs {
  UpdateBlock<P> block;
  P* p;
  P *exp_avg, *exp_avg_sq;
  P decay;         // p is multiplied by it first: 1 - lr * weight_decay (AdamW)
  P weight_decay;  // times p is added to the gradient (Adam)
  P beta2, one_minus_beta1, one_minus_beta2, eps;
  P step_size;           // lr / (1 - beta1^t)
  P inverse_bias2_sqrt;  // 1 / sqrt(1 - beta2^t)
};

template <class S>
struct TrainingKernels {
  using P = Accumulator<S>;
  void (*loss[3])(const LossArgs<S>&);  // by LossKind
  // dst = src * scale + shift, rounded once.
  void (*convert)(const P* src, int64_t n, P scale, P shift, S* dst);
  void (*convert_bytes)(const uint8_t* src, int64_t n, P scale, P shift, S* dst);
  // Null unless S is P.
  void (*sgd)(const SgdArgs<P>&);
  void (*adam)(const AdamArgs<P>&);
  double (*sum_of_squares)(const P* x, int64_t n);
};

template <class S>
const TrainingKernels<S>& active_training_kernels();

}  // namespace pyfastnn::engine
