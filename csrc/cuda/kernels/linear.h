// One layer of any size: Y[M,N] = relu(X[M,K] W[N,K]^T + b[N]).
#pragma once

#include <cstdint>

namespace pyfastnn::cuda {

struct LinearArgs {
  const void* input;
  const void* weight;
  const void* bias;  // or null
  void* output;
  int64_t rows, in, out;
  unsigned row_tiles;  // blocks are numbered along the rows first: neighbours share a tile of W
  bool relu;
  bool whole_input, whole_weight, whole_output;  // rows are whole 16-byte words
};

}  // namespace pyfastnn::cuda
