// In builds without CUDA, in place of the rest of this folder: calls with CUDA tensors say so.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace pyfastnn {
namespace {

void refuse(const c10::OperatorHandle& op, c10::DispatchKeySet /*keys*/,
            torch::jit::Stack* /*stack*/) {
  TORCH_CHECK(false, op.schema().name(),
              ": pyfastnn was built without CUDA; move the tensors to the CPU, or build it again "
              "where torch has CUDA and nvcc has the same major version, with PYFASTNN_CUDA=1");
}

}  // namespace

TORCH_LIBRARY_IMPL(pyfastnn, CUDA, m) {
  for (const char* name : {"linear_relu", "mlp", "mlp_forward", "mlp_backward"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse>());
  }
}

}  // namespace pyfastnn
