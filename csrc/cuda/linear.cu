// linear of launch.h.
#include "kernels/launching.h"
#include "kernels/linear_ffma.cuh"
#include "kernels/linear_mma.cuh"
#include "launch.h"

namespace pyfastnn::cuda {

namespace {

template <class T, int SIDE>
cudaError_t launch_mma(const LinearArgs& args, dim3 grid, cudaStream_t stream) {
  using Tile = LinearTile<T, SIDE, SIDE>;
  return launch(linear_mma<T, SIDE, SIDE>, grid, Tile::kThreads, Tile::kShared, args, stream);
}

template <int SIDE>
cudaError_t launch_side(LinearArgs args, DType dtype, Float32Math math, cudaStream_t stream) {
  args.row_tiles = static_cast<unsigned>(ceil_div(args.rows, SIDE));
  // In one dimension: the others end at 65535.
  const dim3 grid(static_cast<unsigned>(args.row_tiles * ceil_div(args.out, SIDE)));
  if (dtype == DType::kBFloat16) return launch_mma<Bf16, SIDE>(args, grid, stream);
  if (dtype == DType::kFloat16) return launch_mma<F16, SIDE>(args, grid, stream);
  if (math == Float32Math::kTF32) return launch_mma<Tf32, SIDE>(args, grid, stream);
  using L = LinearFfma<SIDE, SIDE>;
  return launch(linear_ffma<SIDE, SIDE>, grid, L::kThreads, L::kShared, args, stream);
}

}  // namespace

cudaError_t linear(const Linear& args, cudaStream_t stream) {
  if (args.dtype == DType::kFloat64) return cudaErrorInvalidValue;
  if (args.rows == 0 || args.out == 0) return cudaSuccess;
  const int64_t element = element_size(args.dtype);
  LinearArgs out = {};
  out.input = args.input;
  out.weight = args.weight;
  out.bias = args.bias;
  out.output = args.output;
  out.rows = args.rows;
  out.in = args.in;
  out.out = args.out;
  out.relu = args.relu;
  out.whole_input = is_whole(args.input, args.in, element);
  out.whole_weight = is_whole(args.weight, args.in, element);
  out.whole_output = is_whole(args.output, args.out, element);
  return linear_side(args.rows, args.out) == 64
             ? launch_side<64>(out, args.dtype, args.math, stream)
             : launch_side<128>(out, args.dtype, args.math, stream);
}

}  // namespace pyfastnn::cuda
