// Transposed weights, as many layers a launch as kernel parameters hold.
#include "kernels/transpose.cuh"

#include <algorithm>

namespace pyfastnn::cuda {

namespace {

auto kernel_of(DType dtype, Float32Math math) {
  if (dtype != DType::kFloat32) return transpose<uint16_t, false>;
  return math == Float32Math::kTF32 ? transpose<float, true> : transpose<float, false>;
}

}  // namespace

cudaError_t launch_transpose(const std::vector<TransposeLayer>& list, int64_t width, DType dtype,
                             Float32Math math, cudaStream_t stream) {
  for (size_t start = 0; start < list.size(); start += kMaxTranspose) {
    const size_t count = std::min<size_t>(kMaxTranspose, list.size() - start);
    Transpose args = {};
    std::copy_n(list.begin() + static_cast<std::ptrdiff_t>(start), count, args.layers);
    const unsigned tiles = static_cast<unsigned>(ceil_div(width, kTransposeTile));
    const dim3 grid(tiles, tiles, static_cast<unsigned>(count));
    const cudaError_t error =
        launch(kernel_of(dtype, math), grid, kTransposeThreads, 0, args, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pyfastnn::cuda
