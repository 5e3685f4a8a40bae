// What runs where: pure functions of sizes and dtypes, without CUDA headers, so that every compiler
// can test them. Nothing here asks the device: the order of every sum follows from shapes alone.
#pragma once

#include <cstdint>

namespace pyfastnn::cuda {

enum class DType : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

// How float32 products are made: exactly (FFMA), or from operands rounded to 11 bits (tensor
// cores). bfloat16 and float16 always run on tensor cores with float32 sums; for them this has no
// meaning.
enum class Float32Math : int { kExact = 0, kTF32 = 1 };

constexpr int64_t kMaxWidth = 128;  // of a network whose activations stay on the chip

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

constexpr int64_t element_size(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

// The hand-over rule. True: the whole-network kernels take a layer, together with those before and
// behind it that they take too (see run_end), in one pass over the rows. False: torch's matrix
// product and mask_bias() do.
//
// They take float32, bfloat16 and float16 with both widths between 1 and 128: then two layers
// of weights (of float32 at 128 columns two halves of one) fit the smallest shared memory among the
// supported devices, 99 KB, and the activations of 128 rows fit registers. The number of rows has
// no influence.
constexpr bool is_narrow(int64_t in, int64_t out, DType dtype) {
  return dtype != DType::kFloat64 && in >= 1 && in <= kMaxWidth && out >= 1 && out <= kMaxWidth;
}

// sizes: in_features of the first layer, then out_features of each: depth + 1 numbers. The end of
// the longest run of layers that starts with layer `begin` and goes one way.
constexpr int64_t run_end(const int64_t* sizes, int64_t depth, int64_t begin, DType dtype) {
  const bool first = is_narrow(sizes[begin], sizes[begin + 1], dtype);
  int64_t end = begin + 1;
  while (end < depth && is_narrow(sizes[end], sizes[end + 1], dtype) == first) ++end;
  return end;
}

// Whether all layers are one run of the whole-network kernels.
constexpr bool runs_whole_network(const int64_t* sizes, int64_t depth, DType dtype) {
  return depth >= 1 && is_narrow(sizes[0], sizes[1], dtype) &&
         run_end(sizes, depth, 0, dtype) == depth;
}

// Whole-network kernels come for widths up to 64 and up to 128: narrow networks need half of the
// registers. Results have the same bits with both.
constexpr int64_t chain_width(int64_t widest) { return widest <= 64 ? 64 : 128; }

// linear: tiles of 128 x 128, or of 64 x 64 where the large ones would be too few to give every
// multiprocessor of a large device two. Results have the same bits with both.
constexpr int64_t linear_side(int64_t rows, int64_t out) {
  return ceil_div(rows, 128) * ceil_div(out, 128) >= 256 ? 128 : 64;
}

// Elements of a row whose rows are whole 16-byte words: of buffers that are ours to lay out.
constexpr int64_t padded(int64_t columns, DType dtype) {
  return round_up(columns, 16 / element_size(dtype));
}

// Sums over rows are cut into parts: by blocks, then added in their order. rows(part) and the
// number of parts follow from shapes, never from the device.
struct Split {
  int64_t rows_per_part, parts;
};

constexpr Split split_rows(int64_t rows, int64_t wanted_parts, int64_t least, int64_t multiple) {
  const int64_t even = ceil_div(rows, wanted_parts > 0 ? wanted_parts : 1);
  const int64_t rows_per_part = round_up(even > least ? even : least, multiple);
  return {rows_per_part, ceil_div(rows, rows_per_part)};
}

// Weight gradients: about 256 blocks for all layers together, so that a part of dW, which is
// written and read again, is small beside the rows that were summed for it.
constexpr Split wgrad_split(int64_t rows, int64_t depth) {
  return split_rows(rows, 256 / (depth > 0 ? depth : 1), 256, 32);
}

// mask_bias: chunks of 16 bytes side by side in a block (a power of two, at most 32), and parts for
// about 1024 blocks.
constexpr int mask_bias_chunks(int64_t out, DType dtype) {
  int chunks = 1;
  while (chunks < 32 && chunks * (16 / element_size(dtype)) < out) chunks *= 2;
  return chunks;
}
constexpr int64_t mask_bias_columns(int64_t out, DType dtype) {
  return ceil_div(out, mask_bias_chunks(out, dtype) * (16 / element_size(dtype)));
}
constexpr Split mask_bias_split(int64_t rows, int64_t out, DType dtype) {
  const int64_t columns = mask_bias_columns(out, dtype);
  return split_rows(rows, 1024 / (columns > 0 ? columns : 1), 64, 64);
}

}  // namespace pyfastnn::cuda
