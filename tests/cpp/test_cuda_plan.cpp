// plan.h has no CUDA in it: its promises are checked while this file is compiled.
#include <initializer_list>

#include "cuda/plan.h"

namespace pyfastnn::cuda {
namespace {

template <class... Sizes>
constexpr bool whole(DType dtype, Sizes... sizes) {
  const int64_t list[] = {sizes...};
  return runs_whole_network(list, sizeof...(sizes) - 1, dtype);
}

static_assert(whole(DType::kFloat32, 1, 1) && whole(DType::kBFloat16, 128, 128, 128));
static_assert(whole(DType::kFloat16, 3, 64, 5) && !whole(DType::kFloat64, 3, 64, 5));
static_assert(!whole(DType::kFloat32, 129, 4) && !whole(DType::kFloat32, 4, 129));
static_assert(!whole(DType::kFloat32, 4, 4, 129, 4) && !whole(DType::kFloat32, 0, 4));
static_assert(!whole(DType::kFloat32, 4), "a network has a layer");

// The runs of a network as a number of layers each: digits of a decimal number.
template <class... Sizes>
constexpr int runs(DType dtype, Sizes... sizes) {
  const int64_t list[] = {sizes...}, depth = sizeof...(sizes) - 1;
  int digits = 0;
  for (int64_t begin = 0, end = 0; begin < depth; begin = end) {
    end = run_end(list, depth, begin, dtype);
    digits = 10 * digits + static_cast<int>(end - begin);
  }
  return digits;
}
static_assert(runs(DType::kFloat32, 784, 128, 64, 10) == 12, "the first layer is torch's");
static_assert(runs(DType::kFloat64, 784, 128, 64, 10) == 3 && runs(DType::kFloat16, 4, 4, 4) == 2);
static_assert(runs(DType::kBFloat16, 784, 128, 64, 128, 784) == 121);
static_assert(runs(DType::kBFloat16, 64, 128, 129, 300, 64, 1, 1) == 132);
static_assert(runs(DType::kFloat32, 17, 256, 256, 6) == 3 && runs(DType::kFloat32, 0, 4, 4) == 11);

static_assert(chain_width(1) == 64 && chain_width(64) == 64 && chain_width(65) == 128);
static_assert(linear_side(128 * 16, 128 * 16) == 128 && linear_side(128 * 16, 128 * 15) == 64);
static_assert(padded(1, DType::kBFloat16) == 8 && padded(8, DType::kFloat16) == 8);
static_assert(padded(9, DType::kFloat32) == 12 && padded(3, DType::kFloat64) == 4);

// Parts cover all rows, and none is empty.
constexpr bool covers(Split split, int64_t rows) {
  return split.parts * split.rows_per_part >= rows &&
         (split.parts - 1) * split.rows_per_part < rows;
}
constexpr bool all_covered() {
  for (int64_t rows :
       {int64_t{1}, int64_t{255}, int64_t{256}, int64_t{257}, int64_t{65536}, int64_t{1} << 33})
    for (int64_t depth : {1, 3, 256, 1000}) {
      if (!covers(wgrad_split(rows, depth), rows)) return false;
      if (!covers(mask_bias_split(rows, depth, DType::kBFloat16), rows)) return false;
      if (mask_bias_split(rows, depth, DType::kBFloat16).parts > 65535) return false;  // grid.y
    }
  return true;
}
static_assert(all_covered());
static_assert(wgrad_split(0, 3).parts == 0 && mask_bias_split(0, 3, DType::kFloat32).parts == 0);
static_assert(wgrad_split(1 << 20, 4).parts == 64 && wgrad_split(1024, 4).parts == 4);

static_assert(mask_bias_chunks(1, DType::kFloat32) == 1 &&
              mask_bias_chunks(5, DType::kFloat32) == 2);
static_assert(mask_bias_chunks(4096, DType::kFloat32) == 32);
static_assert(mask_bias_columns(257, DType::kBFloat16) == 2);

}  // namespace
}  // namespace pyfastnn::cuda
