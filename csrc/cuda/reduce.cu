// Sums of parts, as many results a launch as kernel parameters hold.
#include <algorithm>

#include "kernels/reduce.cuh"

namespace pyfastnn::cuda {

namespace {

template <class T>
cudaError_t launch_segments(const Segments& segments, int count, int64_t longest,
                            cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(longest, kReduceThreads)), count);
  return launch(reduce<T>, grid, kReduceThreads, 0, segments, stream);
}

cudaError_t launch_segments(const Segments& segments, int count, int64_t longest, DType dtype,
                            cudaStream_t stream) {
  switch (dtype) {
    case DType::kFloat32:
      return launch_segments<F32>(segments, count, longest, stream);
    case DType::kFloat64:
      return launch_segments<F64>(segments, count, longest, stream);
    case DType::kBFloat16:
      return launch_segments<Bf16>(segments, count, longest, stream);
    default:
      return launch_segments<F16>(segments, count, longest, stream);
  }
}

}  // namespace

cudaError_t launch_reduce(const std::vector<Segment>& list, int64_t splits, DType dtype,
                          cudaStream_t stream) {
  for (size_t start = 0; start < list.size(); start += kMaxSegments) {
    const size_t count = std::min<size_t>(kMaxSegments, list.size() - start);
    Segments segments = {splits, {}};
    int64_t longest = 0;
    for (size_t i = 0; i < count; ++i) {
      segments.list[i] = list[start + i];
      longest = std::max(longest, segments.list[i].count);
    }
    const cudaError_t error =
        launch_segments(segments, static_cast<int>(count), longest, dtype, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pyfastnn::cuda
