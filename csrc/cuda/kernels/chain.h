// A chain of products, each with the result of the one before it as its left operand: the form that
// forward and data gradients of a network share. One block takes some rows through all of it.
//
//   fprop: h_l = relu(h_{l-1} W_l^T + b_l)
//   dgrad: dZ_{l-1} = dZ_l W_l where not (Y_{l-1} <= 0), a chain with transposed weights, backwards
#pragma once

#include <cstdint>

namespace pyfastnn::cuda {

// Which matrices have rows of whole 16-byte words that start on 16 bytes; those that are not there
// count as such.
enum Whole : uint8_t { kWholeWeight = 1, kWholeOutput = 2, kWholeMask = 4, kWholeInput = 8 };

struct ChainLayer {
  const void* weight;  // [out, in], rows weight_ld elements apart
  const void* extra;   // fprop: bias [out] or null; dgrad: Y [rows, out] of the mask, or null
  void* output;        // [rows, out], rows output_ld elements apart; or null
  int16_t in, out, weight_ld, output_ld;
  bool relu;  // fprop only
  uint8_t whole;
};

// As many layers as fit the 4 KB of kernel parameters.
constexpr int kMaxChain = 100;

struct Chain {
  const void* input;       // [rows, layers[0].in], rows input_ld elements apart
  const void* input_mask;  // dgrad: Y of the last layer, or null
  void* masked_input;      // dgrad: where dZ of the last layer goes, or null
  int64_t rows;
  int depth;
  int16_t in, input_ld, masked_ld;
  uint8_t whole;  // kWholeInput, kWholeMask and kWholeOutput
  ChainLayer layers[kMaxChain];
};
static_assert(sizeof(ChainLayer) == 40 && sizeof(Chain) <= 4096, "kernel parameters end at 4 KB");

enum class Pass { kFprop, kDgrad };

}  // namespace pyfastnn::cuda
