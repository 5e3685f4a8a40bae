// One checked launch, and small questions of the host code.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pyfastnn::cuda {

// Launches `kernel` with `shared` bytes of dynamic shared memory. Never waits.
template <class Parameters>
cudaError_t launch(void (*kernel)(Parameters), dim3 grid, int threads, int shared,
                   const Parameters& parameters, cudaStream_t stream) {
  // More than 48 KB have to be asked for.
  if (shared > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, threads, shared, stream>>>(parameters);
  return cudaGetLastError();
}

// Whether all rows of a matrix start on 16 bytes.
inline bool is_whole(const void* data, int64_t ld, int64_t element) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && ld * element % 16 == 0;
}

}  // namespace pyfastnn::cuda
