// Y[M, N] = X[M, K] W[N, K]^T, bfloat16 in, float32 out: cp.async in two stages, ldmatrix,
// mma.sync, results through shared memory. K % 8 == 0. Every BUG_ macro plants one defect.
#include <cuda_bf16.h>

#include <cstdint>

using bf16 = __nv_bfloat16;

constexpr int kRows = 32, kColumns = 16, kDepth = 32, kStages = 2, kThreads = 64;
constexpr int kPitch = kDepth + 8;       // 80 bytes: eight rows meet all banks once
constexpr int kOutPitch = kColumns + 4;  // of the float32 tile

#ifdef BUG_WAIT_ONE_SHORT
constexpr int kPending = kStages;
#else
constexpr int kPending = kStages - 1;
#endif

__device__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ void copy16(bf16* to, const bf16* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(inside ? 16 : 0));
}

__device__ void load_tile(bf16 (*tile)[kPitch], const bf16* source, int first, int rows, int limit,
                          int k0, int K) {
  for (int i = threadIdx.x; i < rows * kDepth / 8; i += kThreads) {
    const int row = i / (kDepth / 8), k = i % (kDepth / 8) * 8;
#ifdef BUG_READ_OUT_OF_BOUNDS
    const bool inside = k0 + k < K;
#else
    const bool inside = first + row < limit && k0 + k < K;
#endif
#ifdef BUG_UNINITIALISED
    if (!inside) continue;
#endif
    const bf16* from = source + (inside ? size_t(first + row) * K + k0 + k : 0);
#ifdef BUG_MISALIGNED
    from += inside;
#endif
    copy16(&tile[row][k], from, inside);
  }
}

__device__ void multiply(float (&sums)[2][4], const bf16 (*x)[kPitch], const bf16 (*w)[kPitch]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#if defined(BUG_LDMATRIX_ROW)
  const int row = warp * 16 + lane % 8;
#elif defined(BUG_LDMATRIX_OUTSIDE)
  const int row = (warp + 20) * 16 + lane % 16;
#else
  const int row = warp * 16 + lane % 16;
#endif
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[4], b[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(shared_address(&x[row][k + lane / 16 * 8])));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(shared_address(&w[lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8])));
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
          "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[2 * n]), "r"(b[2 * n + 1]));
    }
  }
}

extern "C" __global__ void __launch_bounds__(kThreads)
    gemm(const bf16* X, const bf16* W, float* Y, int M, int N, int K) {
  struct Tiles {
    bf16 x[kStages][kRows][kPitch], w[kStages][kColumns][kPitch];
  };
  __shared__ __align__(16) union {
    Tiles in;
    float out[kRows][kOutPitch];
  } tile;
  const int m0 = blockIdx.y * kRows, n0 = blockIdx.x * kColumns;
  auto load = [&](int step) {
    const int stage = step % kStages, k0 = step * kDepth;
    if (k0 < K) {
      load_tile(tile.in.x[stage], X, m0, kRows, M, k0, K);
      load_tile(tile.in.w[stage], W, n0, kColumns, N, k0, K);
    }
    asm volatile("cp.async.commit_group;");
  };
  float sums[2][4] = {};
  load(0);
#pragma unroll 1
  for (int step = 0; step * kDepth < K; ++step) {
    load(step + 1);
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
#ifndef BUG_NO_SYNC_AFTER_LOAD
    __syncthreads();
#endif
    multiply(sums, tile.in.x[step % kStages], tile.in.w[step % kStages]);
#if defined(BUG_NO_SYNC_BEFORE_REUSE)
    if ((step + 1) * kDepth < K) __syncthreads();
#elif !defined(BUG_NO_SYNC_AT_LOOP_END)
    __syncthreads();
#endif
  }
#ifdef BUG_NO_SYNC_AT_LOOP_END
  __syncthreads();
#endif
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 4; ++i)
      tile.out[warp * 16 + lane / 4 + i / 2 * 8][n * 8 + lane % 4 * 2 + i % 2] = sums[n][i];
#ifndef BUG_NO_SYNC_AFTER_STORE
  __syncthreads();
#endif
  for (int i = threadIdx.x; i < kRows * kColumns; i += kThreads) {
    const int m = m0 + i / kColumns, n = n0 + i % kColumns;
#ifdef BUG_WRITE_OUT_OF_BOUNDS
    if (n < N) Y[size_t(m) * N + n] = tile.out[i / kColumns][i % kColumns];
#else
    if (m < M && n < N) Y[size_t(m) * N + n] = tile.out[i / kColumns][i % kColumns];
#endif
  }
}
