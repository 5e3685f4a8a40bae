// CUTLASS kernels for relu(X W^T + bias): compiled to PTX they are the kernels, compiled for the
// host this is a program that writes the kernel's parameter, a struct that only C++ can fill.
//   program M N K X W bias Y   (device addresses)  ->  grid x, y, z, block, shared bytes, parameter
// Macros choose the kernel: ELEMENT, OUTPUT, and ROWS, COLUMNS, DEPTH of the tile, WARP_ROWS,
// WARP_COLUMNS, INSTRUCTION_DEPTH.
#include <cutlass/cutlass.h>
#include <cutlass/epilogue/thread/linear_combination_relu.h>
#include <cutlass/gemm/device/gemm.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

constexpr int kAligned = 16 / sizeof(ELEMENT);
using Epilogue =
    cutlass::epilogue::thread::LinearCombinationRelu<OUTPUT, 16 / sizeof(OUTPUT), float, float>;
using Gemm = cutlass::gemm::device::Gemm<
    ELEMENT, cutlass::layout::RowMajor, ELEMENT, cutlass::layout::ColumnMajor, OUTPUT,
    cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    cutlass::gemm::GemmShape<ROWS, COLUMNS, DEPTH>,
    cutlass::gemm::GemmShape<WARP_ROWS, WARP_COLUMNS, DEPTH>,
    cutlass::gemm::GemmShape<16, 8, INSTRUCTION_DEPTH>, Epilogue,
    cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, 3, kAligned, kAligned>;
using Kernel = Gemm::GemmKernel;

template __global__ void cutlass::Kernel<Kernel>(Kernel::Params);

template <typename T>
T* pointer(const char* text) {
  return reinterpret_cast<T*>(strtoull(text, nullptr, 10));
}

int main(int, char** argv) {
  const int M = atoi(argv[1]), N = atoi(argv[2]), K = atoi(argv[3]);
  Gemm::ThreadblockSwizzle swizzle;
  const auto tiled = swizzle.get_tiled_shape(
      {M, N, K},
      {Gemm::ThreadblockShape::kM, Gemm::ThreadblockShape::kN, Gemm::ThreadblockShape::kK}, 1);
  const Kernel::Params params({M, N, K}, tiled, {pointer<ELEMENT>(argv[4]), K},
                              {pointer<ELEMENT>(argv[5]), K}, {pointer<OUTPUT>(argv[6]), 0},
                              {pointer<OUTPUT>(argv[7]), N}, {1.f, 1.f});
  const dim3 grid = swizzle.get_grid_shape(tiled);
  printf("%u %u %u %d %zu ", grid.x, grid.y, grid.z, int(Kernel::kThreadCount),
         sizeof(Kernel::SharedStorage));
  for (size_t i = 0; i < sizeof(params); ++i)
    printf("%02x", reinterpret_cast<const unsigned char*>(&params)[i]);
}
