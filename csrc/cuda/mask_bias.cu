// mask_bias of launch.h.
#include "kernels/launch_reduce.h"
#include "kernels/mask_bias.cuh"
#include "launch.h"

namespace pyfastnn::cuda {

namespace {

int64_t sum_size(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

cudaError_t launch_rows(const MaskBiasRows& rows, dim3 grid, DType dtype, cudaStream_t stream) {
  switch (dtype) {
    case DType::kFloat32:
      return launch(mask_bias_rows<F32>, grid, kMaskBiasThreads, 0, rows, stream);
    case DType::kFloat64:
      return launch(mask_bias_rows<F64>, grid, kMaskBiasThreads, 0, rows, stream);
    case DType::kBFloat16:
      return launch(mask_bias_rows<Bf16>, grid, kMaskBiasThreads, 0, rows, stream);
    default:
      return launch(mask_bias_rows<F16>, grid, kMaskBiasThreads, 0, rows, stream);
  }
}

}  // namespace

int64_t mask_bias_workspace(int64_t rows, int64_t out, DType dtype) {
  return mask_bias_split(rows, out, dtype).parts * out * sum_size(dtype);
}

cudaError_t mask_bias(const MaskBias& args, cudaStream_t stream) {
  if (args.out == 0 || (args.grad_z == nullptr && args.grad_bias == nullptr)) return cudaSuccess;
  const Split split = mask_bias_split(args.rows, args.out, args.dtype);
  if (args.rows > 0) {
    const int64_t element = element_size(args.dtype);
    auto whole = [&](const void* data) { return is_whole(data, args.out, element); };
    MaskBiasRows rows = {};
    rows.grad_output = args.grad_output;
    rows.output = args.output;
    rows.grad_z = args.grad_z;
    rows.parts = args.grad_bias != nullptr ? args.workspace : nullptr;
    rows.rows = args.rows;
    rows.out = args.out;
    rows.rows_per_split = split.rows_per_part;
    rows.chunks = mask_bias_chunks(args.out, args.dtype);
    rows.whole = whole(args.grad_output) && whole(args.output) && whole(args.grad_z);
    const dim3 grid(static_cast<unsigned>(mask_bias_columns(args.out, args.dtype)),
                    static_cast<unsigned>(split.parts));
    const cudaError_t error = launch_rows(rows, grid, args.dtype, stream);
    if (error != cudaSuccess) return error;
  }
  if (args.grad_bias == nullptr) return cudaSuccess;
  return launch_reduce({{args.workspace, args.grad_bias, args.out}}, split.parts, args.dtype,
                       stream);
}

}  // namespace pyfastnn::cuda
