// The few functions of the CUDA runtime that launch code calls, without a driver: a launch goes to
// a function that the tests gave, which has the kernel executed, and a kernel that asks for more
// shared memory than it may have fails as it would on a device.
#include <cstddef>
#include <map>
#include <string>

#include <cuda_runtime_api.h>

using Launch = int (*)(const char* kernel, const unsigned* grid, const unsigned* block, void** args,
                       size_t shared);

namespace {

constexpr size_t kWithoutAsking = 48 * 1024;
constexpr size_t kSmallestDevice = 99 * 1024;  // a block's shared memory on sm_86, 89 and 120

struct Function {
  std::string name;
  size_t allowed = kWithoutAsking;
};
std::map<const void*, Function>& functions() {
  static std::map<const void*, Function> known;
  return known;
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  void* stream;
} pushed;

Launch on_launch = nullptr;
cudaError_t last_error = cudaSuccess;

}  // namespace

extern "C" {

void set_launch(Launch launch) { on_launch = launch; }

void** __cudaRegisterFatBinary(void* binary) { return static_cast<void**>(binary); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  functions()[host].name = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *static_cast<void**>(stream) = pushed.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize ||
      static_cast<size_t>(value) > kSmallestDevice)
    return cudaErrorInvalidValue;
  functions()[function].allowed = value;
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args,
                               size_t shared, cudaStream_t) {
  const Function& function = functions().at(kernel);
  const unsigned sizes[] = {grid.x, grid.y, grid.z}, threads[] = {block.x, block.y, block.z};
  const bool fits = shared <= function.allowed && grid.x > 0 && grid.y > 0 && grid.z > 0 &&
                    grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535;
  const bool done = fits && on_launch(function.name.c_str(), sizes, threads, args, shared) == 0;
  return last_error = done ? cudaSuccess : cudaErrorLaunchFailure;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

}  // extern "C"
