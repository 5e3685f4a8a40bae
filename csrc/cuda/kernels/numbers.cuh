// What kernels know of a type, in words of 32 bits: two 16-bit elements or one float. And rows of
// memory in chunks of 16 bytes, which is how kernels see all matrices.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ptx_ops.cuh"

namespace pyfastnn::cuda {

template <class Float>
struct PlainFloat {
  using Element = Float;
  using Sum = Float;
  static constexpr int kElements = 16 / sizeof(Float);
  static __device__ __forceinline__ Float to_float(Float e) { return e; }
  static __device__ __forceinline__ Float rounded(Float sum) { return sum; }
};
using F32 = PlainFloat<float>;
using F64 = PlainFloat<double>;

constexpr int kChunkBytes = 16;

// Elements that a chunk has, what sums are made of, conversions, and the mma of the type if any.
struct Bf16 {
  using Element = uint16_t;
  using Sum = float;
  static constexpr int kElements = 8;
  static constexpr bool kNeedsRounding = false;

  static __device__ __forceinline__ float to_float(Element e) { return __uint_as_float(e << 16); }
  template <bool RELU>
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return RELU ? pack_relu_bf16(low, high) : pack_bf16(low, high);
  }
  static __device__ __forceinline__ Element rounded(float sum) {
    return static_cast<Element>(pack_bf16(sum, 0));
  }
  static constexpr uint32_t kOnes = 0x3f803f80;
  static __device__ __forceinline__ uint32_t relu2(uint32_t word) { return relu_bf16x2(word); }
  template <class... Args>
  static __device__ __forceinline__ void mma(float (&d)[4], Args... args) {
    mma_bf16(d, args...);
  }
};

struct F16 {
  using Element = uint16_t;
  using Sum = float;
  static constexpr int kElements = 8;
  static constexpr bool kNeedsRounding = false;

  static __device__ __forceinline__ float to_float(Element e) {
    return __half2float(__ushort_as_half(e));
  }
  template <bool RELU>
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return RELU ? pack_relu_f16(low, high) : pack_f16(low, high);
  }
  static __device__ __forceinline__ Element rounded(float sum) {
    return static_cast<Element>(pack_f16(sum, 0));
  }
  static constexpr uint32_t kOnes = 0x3c003c00;
  static __device__ __forceinline__ uint32_t relu2(uint32_t word) { return relu_f16x2(word); }
  template <class... Args>
  static __device__ __forceinline__ void mma(float (&d)[4], Args... args) {
    mma_f16(d, args...);
  }
};

struct Tf32 {
  using Element = float;
  static constexpr int kElements = 4;
  static constexpr bool kNeedsRounding = true;  // before a word enters an mma

  static __device__ __forceinline__ float to_float(Element e) { return e; }
  template <class... Args>
  static __device__ __forceinline__ void mma(float (&d)[4], Args... args) {
    mma_tf32(d, args...);
  }
};

using Chunk = uint32_t[4];

// Loops whose counter is a constant, as offsets inside of instructions must be:
// visit(Constant<0>), ..., visit(Constant<COUNT - 1>).
template <int N>
struct Constant {
  __device__ constexpr operator int() const { return N; }
};
template <int COUNT, int FIRST = 0, class Visit>
__device__ __forceinline__ void unroll(Visit visit) {
  if constexpr (FIRST < COUNT) {
    visit(Constant<FIRST>{});
    unroll<COUNT, FIRST + 1>(visit);
  }
}

// N floats of shared memory at `address` + OFFSET bytes.
template <int OFFSET, int N>
__device__ __forceinline__ void load_floats(float (&to)[N], uint32_t address) {
  unroll<N / 4>([&](auto i) {
    float four[4];
    load_16<OFFSET + 16 * i>(four, address);
#pragma unroll
    for (int e = 0; e < 4; ++e) to[4 * i + e] = four[e];
  });
}

__device__ __forceinline__ void set_chunk(Chunk& chunk, const uint4& from) {
  chunk[0] = from.x;
  chunk[1] = from.y;
  chunk[2] = from.z;
  chunk[3] = from.w;
}

__device__ __forceinline__ uint4 as_uint4(const Chunk& chunk) {
  return make_uint4(chunk[0], chunk[1], chunk[2], chunk[3]);
}

// 16 bytes at an address that is a multiple of 16; words, whatever they hold.
template <class Element>
__device__ __forceinline__ void load_chunk(Chunk& chunk, const Element* from) {
  set_chunk(chunk, __ldg(reinterpret_cast<const uint4*>(from)));
}
template <class Element>
__device__ __forceinline__ void store_chunk(Element* to, const Chunk& chunk) {
  *reinterpret_cast<uint4*>(to) = as_uint4(chunk);
}

// The first `valid` elements at any address, the rest zeros.
template <class Element>
__device__ __forceinline__ void load_elements(Chunk& chunk, const Element* from, int valid) {
  constexpr int kPerWord = 4 / sizeof(Element);
  set_chunk(chunk, make_uint4(0, 0, 0, 0));
#pragma unroll
  for (int e = 0; e < 4 * kPerWord; ++e) {
    if (e >= valid) continue;
    if constexpr (kPerWord == 2)
      chunk[e / 2] |= static_cast<uint32_t>(__ldg(from + e)) << (e % 2 * 16);
    else
      chunk[e] = __float_as_uint(__ldg(from + e));
  }
}
template <class Element>
__device__ __forceinline__ void store_elements(Element* to, const Chunk& chunk, int valid) {
  constexpr int kPerWord = 4 / sizeof(Element);
#pragma unroll
  for (int e = 0; e < 4 * kPerWord; ++e) {
    if (e >= valid) continue;
    if constexpr (kPerWord == 2)
      to[e] = static_cast<uint16_t>(chunk[e / 2] >> (e % 2 * 16));
    else
      to[e] = __uint_as_float(chunk[e]);
  }
}

// Sums to elements, rounded once.
template <class T, bool RELU>
__device__ __forceinline__ void chunk_of(Chunk& chunk, const float (&values)[T::kElements]) {
#pragma unroll
  for (int word = 0; word < 4; ++word)
    if constexpr (T::kElements == 8)
      chunk[word] = T::template pack<RELU>(values[2 * word], values[2 * word + 1]);
    else
      chunk[word] = RELU ? relu_word(values[word]) : __float_as_uint(values[word]);
}

// Zeros behind the first `valid` elements.
template <class T>
__device__ __forceinline__ void clear_tail(Chunk& chunk, int valid) {
  constexpr int kPerWord = T::kElements / 4;
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const int left = valid - word * kPerWord;
    if (left <= 0) chunk[word] = 0;
    if (kPerWord == 2 && left == 1) chunk[word] &= 0xffff;
  }
}

// dZ: keeps an element where not (y <= 0), else 0.
template <class T>
__device__ __forceinline__ void apply_mask(Chunk& chunk, const Chunk& y) {
#pragma unroll
  for (int word = 0; word < 4; ++word)
    if constexpr (T::kElements == 8) {
      // max(y, 0) is 0 where the gradient stops and at least 1 as an integer elsewhere, NaN too; so
      // after the sum the sign of each half says whether it passes.
      chunk[word] &= spread_signs(T::relu2(y[word]) + 0x7fff7fffu);
    } else {
      chunk[word] = mask_word(chunk[word], y[word]);
    }
}

template <class T>
__device__ __forceinline__ void round_for_mma(Chunk& chunk) {
  if constexpr (T::kNeedsRounding)
#pragma unroll
    for (int word = 0; word < 4; ++word) chunk[word] = round_tf32(chunk[word]);
}

// The same with a chunk of shared memory at `address` + OFFSET.
template <int OFFSET>
__device__ __forceinline__ void round_shared(uint32_t address) {
  Chunk chunk;
  load_16<OFFSET>(chunk, address);
  round_for_mma<Tf32>(chunk);
  store_16<OFFSET>(address, chunk);
}

}  // namespace pyfastnn::cuda
