// Weight gradients: which instance runs, as many layers a launch as kernel parameters hold.
#include <algorithm>

#include "kernels/launch_wgrad.h"
#include "kernels/wgrad_f32.cuh"
#include "kernels/wgrad_mma.cuh"

namespace pyfastnn::cuda {

namespace {

template <class T, int WIDTH>
cudaError_t launch_wgrad_mma(const Wgrad& args, dim3 grid, cudaStream_t stream) {
  using Tile = WgradTile<WIDTH>;
  return launch(wgrad_mma<T, WIDTH>, grid, Tile::kThreads, Tile::kShared, args, stream);
}

template <int WIDTH, bool TF32>
cudaError_t launch_wgrad_f32(const Wgrad& args, dim3 grid, cudaStream_t stream) {
  using Tile = WgradF32Tile<WIDTH, TF32>;
  return launch(wgrad_f32<WIDTH, TF32>, grid, Tile::kThreads, Tile::kShared, args, stream);
}

template <int WIDTH>
cudaError_t launch_wgrad(const Wgrad& args, dim3 grid, DType dtype, Float32Math math,
                         cudaStream_t stream) {
  if (dtype == DType::kBFloat16) return launch_wgrad_mma<Bf16, WIDTH>(args, grid, stream);
  if (dtype == DType::kFloat16) return launch_wgrad_mma<F16, WIDTH>(args, grid, stream);
  if (math == Float32Math::kTF32) return launch_wgrad_f32<WIDTH, true>(args, grid, stream);
  return launch_wgrad_f32<WIDTH, false>(args, grid, stream);
}

}  // namespace

cudaError_t launch_wgrad(const std::vector<WgradLayer>& list, int64_t rows, Split split,
                         int64_t width, DType dtype, Float32Math math, cudaStream_t stream) {
  for (size_t start = 0; start < list.size(); start += kMaxWgrad) {
    const size_t count = std::min<size_t>(kMaxWgrad, list.size() - start);
    Wgrad args = {rows, split.rows_per_part, {}};
    std::copy_n(list.begin() + static_cast<std::ptrdiff_t>(start), count, args.layers);
    const dim3 grid(static_cast<unsigned>(split.parts), static_cast<unsigned>(count));
    const cudaError_t error = chain_width(width) == 64
                                  ? launch_wgrad<64>(args, grid, dtype, math, stream)
                                  : launch_wgrad<128>(args, grid, dtype, math, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pyfastnn::cuda
