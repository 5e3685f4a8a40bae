// Weight and bias gradients of many layers: dW = dZ^T X, db = sums of the columns of dZ. A block
// sums over some rows of one layer and leaves its part in memory (reduce.cuh adds them).
#pragma once

#include <cstdint>

namespace pyfastnn::cuda {

struct WgradLayer {
  const void* grad_z;   // [rows, out], rows ld_z elements apart
  const void* input;    // [rows, in]
  float* weight_parts;  // [splits, out, in], or null
  float* bias_parts;    // [splits, out], or null
  int16_t out, in, ld_z;
  bool whole_z, whole_input;  // rows are whole 16-byte words
};

constexpr int kMaxWgrad = 100;

struct Wgrad {
  int64_t rows, rows_per_split;
  WgradLayer layers[kMaxWgrad];
};
static_assert(sizeof(WgradLayer) == 40 && sizeof(Wgrad) <= 4096, "kernel parameters end at 4 KB");

constexpr int kWgradStageRows = 32;  // in shared memory at a time

}  // namespace pyfastnn::cuda
