// One kernel for each thing that nvcc makes of C++, to see that its PTX is understood.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cassert>
#include <cstdint>

struct Box {
  const float* values;
  float* results;
  int count;
  short weights[3];
  double scale;
};

// A struct by value, an index into it that is not known when compiling.
extern "C" __global__ void structure(Box box) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < box.count) box.results[i] = box.values[i] * box.weights[i % 3] * float(box.scale);
}

// Branches of many kinds; the loop runs a different number of times in every thread.
extern "C" __global__ void branches(const int* X, int* Y) {
  const int i = threadIdx.x;
  int value = X[i];
  switch (i % 8) {
    case 0:
      value += 100;
      break;
    case 1:
      value *= 3;
      break;
    case 2:
      value = -value;
      break;
    case 3:
      value ^= 0x55;
      break;
    case 4:
      value = value / 7;
      break;
    case 5:
      value = value % 7;
      break;
    case 6:
      value = __popc(value);
      break;
    default:
      value = __clz(value);
  }
  for (int n = 0; n < i % 5; ++n) {
    if (n == 3) continue;
    value = value * 5 + n;
  }
  Y[i] = value;
}

__constant__ float table[4] = {1.f, 10.f, 100.f, 1000.f};
__device__ int counter;

// An array that lives in local memory, constants, a variable of the module.
extern "C" __global__ void local_array(const int* X, float* Y) {
  const int i = threadIdx.x;
  float places[8];
  for (int n = 0; n < 8; ++n) places[n] = float(n * n);
  places[X[i] & 7] = table[X[i] & 3];
  Y[i] = places[X[i + 1] & 7];
  atomicAdd(&counter, 1);
}

// Two static arrays and a dynamic one, and a pointer that may point to either.
extern "C" __global__ void shared_arrays(const float* X, float* Y, int which) {
  __shared__ float first[32];
  __shared__ double second[32];
  extern __shared__ float dynamic[];
  const int i = threadIdx.x;
  first[i] = X[i];
  second[i] = 2 * X[i];
  dynamic[i] = 3 * X[i];
  __syncthreads();
  const float* pointer = which ? dynamic : first;
  if (which == 2) pointer = X;
  Y[i] = pointer[31 - i] + float(second[31 - i]);
}

__device__ __noinline__ int square(int x) { return x * x; }

__device__ __noinline__ int cube(int x) {
  if (x > 90) return x * square(x) + 1000000;
  return square(x) * x;
}

// Functions that stay functions; one of them calls another.
extern "C" __global__ void calls(const int* X, int* Y) {
  const int i = threadIdx.x;
  Y[i] = i % 3 == 1 ? cube(X[i]) : cube(X[i] + 1) - cube(X[i]) + i;
}

// An assertion, with its message in memory.
extern "C" __global__ void asserts(const int* X, int* Y) {
  assert(X[threadIdx.x] < 100);
  Y[threadIdx.x] = X[threadIdx.x];
}

// Functions of the mathematical library, in both precisions.
extern "C" __global__ void mathematics(const float* X, float* Y, double* Z) {
  const int i = threadIdx.x;
  const float x = X[i];
  Y[i] = expf(-x * x) + sqrtf(fabsf(x)) + sinf(x) + fmaxf(x, 0.f) / (1.f + x * x) + logf(2 + x * x);
  const double d = x;
  Z[i] = exp(-d * d) + d / (1 + d * d) + floor(d) + fma(d, d, -1.0);
}

// 16-bit floats, alone and in pairs.
extern "C" __global__ void halves(const __half2* A, const __nv_bfloat162* B, float* Y) {
  const int i = threadIdx.x;
  const __half2 a = __hfma2(A[i], A[i], __float2half2_rn(1.f));
  const __nv_bfloat162 b = __hmax2(__hmul2(B[i], B[i]), __float2bfloat162_rn(0.5f));
  Y[i] = __low2float(a) + __high2float(a) + __low2float(b) + __high2float(b) +
         __half2float(__low2half(A[i]) > __high2half(A[i]) ? __low2half(A[i]) : __high2half(A[i]));
}

// Comparisons of pairs: as numbers, as masks, as one truth value.
extern "C" __global__ void compare_halves(const __half2* A, const __nv_bfloat162* B, float* Y,
                                          uint32_t* masks) {
  const int i = threadIdx.x;
  const __half2 greater = __hgt2(A[i], __float2half2_rn(0.25f));
  const __nv_bfloat162 less = __hlt2(B[i], __float2bfloat162_rn(0.25f));
  Y[i] = __low2float(greater) + 2 * __high2float(greater) + 4 * __low2float(less) +
         8 * __high2float(less) + (__hbgt2(A[i], __float2half2_rn(0.f)) ? 16 : 0);
  masks[i] = __hgt2_mask(A[i], __float2half2_rn(0.f)) ^ (__hisnan(__low2half(A[i])) ? 1 : 0);
}

// Everything that a warp does together.
extern "C" __global__ void warp(const int* X, int* Y) {
  const int i = threadIdx.x;
  const int x = X[i];
  int sum = __shfl_xor_sync(~0u, x, 5) + 3 * __shfl_up_sync(~0u, x, 2, 8) +
            5 * __shfl_down_sync(~0u, x, 3, 16) + 7 * __shfl_sync(~0u, x, i + 1, 4);
  sum += __popc(__ballot_sync(~0u, x > 0)) + 11 * __any_sync(~0u, x > 7) + __all_sync(~0u, x > -9);
  if (i % 2) sum += 13 * __reduce_add_sync(0xaaaaaaaau, x) + __popc(__activemask());
  sum += __popc(__match_any_sync(~0u, x));
  Y[i] = sum;
}

// All atomic operations on 32 bits; a loop of compare-and-swap.
extern "C" __global__ void atomics(const int* X, int* Y, double* Z, __nv_bfloat162* W) {
  const int x = X[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(Y + 0, x);
  atomicMin(Y + 1, x);
  atomicMax(Y + 2, x);
  atomicAnd(Y + 3, x);
  atomicOr(Y + 4, x);
  atomicXor(Y + 5, x);
  atomicInc(reinterpret_cast<unsigned*>(Y) + 6, 10);
  atomicDec(reinterpret_cast<unsigned*>(Y) + 7, 10);
  atomicAdd(reinterpret_cast<float*>(Y) + 8, float(x));
  atomicAdd(Z, double(x));
#if __CUDA_ARCH__ >= 900
  atomicAdd(W, __floats2bfloat162_rn(1.f, 2.f));
#endif
  int old = atomicAdd(Y + 9, 0), assumed;
  do {
    assumed = old;
    old = atomicCAS(Y + 9, assumed, assumed * 3 + 1);
  } while (assumed != old);
}

// Barriers that also count, in blocks of three dimensions.
extern "C" __global__ void voting_barriers(const int* X, int* Y) {
  const int i = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const int x = X[i];
  const int count = __syncthreads_count(x > 0);
  const int any = __syncthreads_or(x > 7), all = __syncthreads_and(x > -9);
  Y[(blockIdx.y * gridDim.x + blockIdx.x) * 60 + i] = count * 4 + (any ? 2 : 0) + (all ? 1 : 0);
}
