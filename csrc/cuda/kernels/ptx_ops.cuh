// The PTX instructions that C++ has no words for, all of sm_80: asynchronous copies to shared
// memory, ldmatrix, mma.sync, packed conversions. No other file holds inline PTX.
#pragma once

#include <cstdint>

namespace pyfastnn::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes from global to shared memory.
__device__ __forceinline__ void copy_16(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// At `to` + OFFSET; zeros, and nothing is read, unless `wanted`.
template <int OFFSET = 0>
__device__ __forceinline__ void copy_16(uint32_t to, const void* from, bool wanted) {
  const int bytes = wanted ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0+%3], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes),
               "n"(OFFSET)
               : "memory");
}

__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's groups are on their way.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// A value that is computed here and stays in a register: the compiler would fetch kernel parameters
// again, by a computed address, wherever one is used, and compute sums again for every access.
template <class Integer>
__device__ __forceinline__ Integer in_register(Integer value) {
  static_assert(sizeof(Integer) == 4 || sizeof(Integer) == 8);
  if constexpr (sizeof(Integer) == 4)
    asm volatile("" : "+r"(value));
  else
    asm volatile("" : "+l"(value));
  return value;
}

// Stands at both ends of code that exists in several variants: without it the compiler would merge
// them into one that asks at every step which it is.
template <int VARIANT>
__device__ __forceinline__ void keep_apart() {
  asm volatile("// variant %0" ::"n"(VARIANT));
}

// 16 bytes of shared memory at `address` + OFFSET, in one instruction: the compiler may cut an
// access of C++ to pieces, which then meet the same banks.
template <int OFFSET>
__device__ __forceinline__ void load_16(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4+%5];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address), "n"(OFFSET));
}

template <int OFFSET = 0>
__device__ __forceinline__ void store_16(uint32_t address, const uint32_t (&words)[4]) {
  asm volatile("st.shared.v4.b32 [%0+%5], {%1,%2,%3,%4};" ::"r"(address), "r"(words[0]),
               "r"(words[1]), "r"(words[2]), "r"(words[3]), "n"(OFFSET)
               : "memory");
}
template <int OFFSET>
__device__ __forceinline__ void load_16(float (&to)[4], uint32_t address) {
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4+%5];"
               : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
               : "r"(address), "n"(OFFSET));
}

// Four 8 x 16-byte matrices; lane 8i + r gives the address of row r of matrix i, less OFFSET. Of
// each, lane 4g + t gets the 4 bytes at column t of row g.
template <int OFFSET>
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4+%5];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address), "n"(OFFSET));
}

// The same, transposed: lane 4g + t gets the 16-bit elements (2t, g) and (2t + 1, g).
template <int OFFSET>
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4+%5];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address), "n"(OFFSET));
}

// D[16,8] = A B^T + C for one warp, with lane = 4g + t. A: words (row g, slot t), (g + 8, t),
// (g, t + 4), (g + 8, t + 4); B: words (column g, slot t), (g, t + 4); C and D: (g, 2t), (g, 2t +
// 1), (g + 8, 2t), (g + 8, 2t + 1). A slot is a word of two 16-bit elements or one float.
#define PYFASTNN_MMA(SHAPE_AND_TYPES)                  \
  asm("mma.sync.aligned." SHAPE_AND_TYPES              \
      " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "       \
      "{%10,%11,%12,%13};"                             \
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]) \
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(c0), "f"(c1), "f"(c2), "f"(c3))

__device__ __forceinline__ void mma_bf16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                         uint32_t a3, uint32_t b0, uint32_t b1, float c0, float c1,
                                         float c2, float c3) {
  PYFASTNN_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}
__device__ __forceinline__ void mma_f16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                        uint32_t a3, uint32_t b0, uint32_t b1, float c0, float c1,
                                        float c2, float c3) {
  PYFASTNN_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void mma_tf32(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                         uint32_t a3, uint32_t b0, uint32_t b1, float c0, float c1,
                                         float c2, float c3) {
  PYFASTNN_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
#undef PYFASTNN_MMA

// Two floats to the 16-bit halves of a word, rounded to nearest even; relu keeps NaN.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
__device__ __forceinline__ uint32_t pack_relu_bf16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
__device__ __forceinline__ uint32_t pack_relu_f16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// max of both halves with 0; NaN becomes the positive NaN.
__device__ __forceinline__ uint32_t relu_bf16x2(uint32_t word) {
  uint32_t result;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(word), "r"(0));
  return result;
}
__device__ __forceinline__ uint32_t relu_f16x2(uint32_t word) {
  uint32_t result;
  asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(result) : "r"(word), "r"(0));
  return result;
}

// The sign of each half in all of its bits.
__device__ __forceinline__ uint32_t spread_signs(uint32_t word) {
  uint32_t result;
  asm("prmt.b32 %0, %1, 0, 0xbb99;" : "=r"(result) : "r"(word));
  return result;
}

__device__ __forceinline__ float relu(float value) {
  float result;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(result) : "f"(value));
  return result;
}

// The same as a word. PTX has registers of floats and of words, and moves between them: here and
// below a result is what its user wants.
__device__ __forceinline__ uint32_t relu_word(float value) {
  uint32_t result;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=r"(result) : "f"(value));
  return result;
}

// The bits of a float; 0 where the float y <= 0, but not where y is NaN.
__device__ __forceinline__ uint32_t mask_word(uint32_t bits, uint32_t y) {
  uint32_t result;
  asm("{.reg .pred stops;\n"
      "setp.le.f32 stops, %2, 0f00000000;\n"
      "selp.b32 %0, 0, %1, stops;}"
      : "=r"(result)
      : "r"(bits), "r"(y));
  return result;
}

// A float rounded to the 11 bits of TF32, to nearest, ties away from zero.
__device__ __forceinline__ uint32_t round_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ uint32_t round_tf32(uint32_t value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "r"(value));
  return bits;
}

}  // namespace pyfastnn::cuda
