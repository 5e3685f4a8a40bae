// Sums of columns and rows of X[M, N]: shuffles, shared memory of one warp, atomics between blocks.
// Every BUG_ macro plants one defect.
#include <cstdint>

#ifdef BUG_LOST_UPDATE
#define UPDATE(place, value) *(place) += (value)
#else
#define UPDATE(place, value) atomicAdd(place, value)
#endif

// sums[m] += the sum of row m over this block's columns; one warp a row, blockDim = (32, rows).
extern "C" __global__ void row_sums(const float* X, float* sums, int M, int N) {
  const int m = blockIdx.y * blockDim.y + threadIdx.y, n = blockIdx.x * 32 + threadIdx.x;
#ifdef BUG_SHUFFLE_AFTER_RETURN
  if (n >= N) return;
#endif
  float sum = m < M && n < N ? X[size_t(m) * N + n] : 0.f;
#pragma unroll
  for (int offset = 16; offset; offset /= 2) {
#ifdef BUG_DIVERGENT_SHUFFLE
    if (threadIdx.x < offset) sum += __shfl_down_sync(0xffffffffu, sum, offset);
#else
    sum += __shfl_down_sync(0xffffffffu, sum, offset);
#endif
  }
  if (threadIdx.x == 0 && m < M) UPDATE(&sums[m], sum);
}

// Y[32 b + i] = X[32 b + 31 - i]: lanes of a warp trade places through shared memory.
extern "C" __global__ void reverse(const float* X, float* Y) {
  __shared__ float place[4][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const size_t first = size_t(blockIdx.x) * blockDim.x + warp * 32;
  for (int turn = 0; turn < 2; ++turn) {
    place[warp][lane] = X[first + lane];
#ifndef BUG_NO_SYNCWARP
    __syncwarp();
#endif
    Y[first + lane] = place[warp][31 - lane];
#ifndef BUG_NO_SYNCWARP_AT_LOOP_END
    __syncwarp();
#endif
  }
}

// Each half of a warp reverses 16 values on its own, the halves apart from one another.
extern "C" __global__ void reverse_halves(const float* X, float* Y) {
  __shared__ float place[32];
  const int lane = threadIdx.x, half = lane / 16;
#ifdef BUG_WRONG_HALF
  const int from = 31 - lane;
#else
  const int from = half * 16 + 15 - lane % 16;
#endif
  if (half == 0) {
    place[lane] = X[lane];
    __syncwarp(0x0000ffffu);
    Y[lane] = place[from];
  } else {
    place[lane] = X[lane];
    __syncwarp(0xffff0000u);
    Y[lane] = place[from];
  }
}

// Y[i] = 2 X[i], four at a time.
extern "C" __global__ void twice(const float* X, float* Y, int count) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i >= count) return;
  float4 value = *reinterpret_cast<const float4*>(X + i);
  value = make_float4(2 * value.x, 2 * value.y, 2 * value.z, 2 * value.w);
#ifdef BUG_MISALIGNED_STORE
  *reinterpret_cast<float4*>(Y + i + 1) = value;
#else
  *reinterpret_cast<float4*>(Y + i) = value;
#endif
}

// total[b] = sum of the block's values, through shared memory; the block is as large as `values`.
extern "C" __global__ void block_sums(const float* X, float* total, int count) {
  extern __shared__ float values[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG_EARLY_RETURN
  if (i >= count) return;
  values[threadIdx.x] = X[i];
#elif defined(BUG_NOT_FILLED)
  if (i < count) values[threadIdx.x] = X[i];
#else
  values[threadIdx.x] = i < count ? X[i] : 0.f;
#endif
  __syncthreads();
  for (int half = blockDim.x / 2; half; half /= 2) {
    if (threadIdx.x < half) {
      values[threadIdx.x] += values[threadIdx.x + half];
#ifdef BUG_BARRIER_IN_BRANCH
      __syncthreads();
#endif
    }
#if !defined(BUG_BARRIER_IN_BRANCH) && !defined(BUG_NO_SYNC_IN_TREE)
    __syncthreads();
#endif
  }
#ifdef BUG_BLOCKS_SHARE_A_PLACE
  if (threadIdx.x == 0) total[0] = values[0];
#else
  if (threadIdx.x == 0) total[blockIdx.x] = values[0];
#endif
}

// histogram[x]++ for 8 bins, first in shared memory.
extern "C" __global__ void histogram(const uint32_t* X, uint32_t* counts, int count) {
  __shared__ uint32_t bins[8];
  if (threadIdx.x < 8) bins[threadIdx.x] = 0;
  __syncthreads();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG_PLAIN_INCREMENT
  if (i < count) bins[X[i] % 8]++;
#else
  if (i < count) atomicAdd(&bins[X[i] % 8], 1u);
#endif
#ifndef BUG_NO_SYNC_AFTER_ATOMICS
  __syncthreads();
#endif
  if (threadIdx.x < 8) atomicAdd(&counts[threadIdx.x], bins[threadIdx.x]);
}
