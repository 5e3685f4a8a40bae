// The operators at the CUDA key as csrc/cuda has them, on top of a launch.h that runs on the CPU:
// what lies between the dispatcher and the kernels, executed without a device. One file, so that
// torch's headers are read once.
#include "launch_cpu.h"

// clang-format off
#include "cuda/by_layer.cpp"
#include "cuda/ops_cuda.cpp"
#include "cuda/whole.cpp"
#include "ops.cpp"
// clang-format on

namespace {

std::string take_log() {
  std::string names;
  for (const std::string& name : pyfastnn::cuda::cpu::log()) names += name + " ";
  pyfastnn::cuda::cpu::log().clear();
  return names;
}

}  // namespace

TORCH_LIBRARY(pyfastnn_host, m) { m.def("take_log() -> str", take_log); }
