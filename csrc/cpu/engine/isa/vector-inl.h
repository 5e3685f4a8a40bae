// Vectors of the storage types: load, store, convert, interleave. Included by each isa/*.cpp inside
// its target region and its anonymous namespace, after it has defined kVectorBytes, fma(),
// load_lanes(), load_tail(), store_tail() and the float16 conversions. Plain GCC/Clang vector
// types: the same source serves SSE2, AVX2, AVX-512 and NEON.

template <class T, int kBytes = kVectorBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
  typedef T unaligned __attribute__((vector_size(kBytes), aligned(1), may_alias));
};
template <class T, int kBytes = kVectorBytes>
using Vec = typename VectorOf<T, kBytes>::type;

template <class T, int kBytes = kVectorBytes>
inline constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));

template <class T, int kBytes = kVectorBytes>
PYFASTNN_INLINE Vec<T, kBytes> load_vector(const void* p) {
  return *static_cast<const typename VectorOf<T, kBytes>::unaligned*>(p);
}
template <class T>
PYFASTNN_INLINE void store_vector(void* p, Vec<T> v) {
  *static_cast<typename VectorOf<T>::unaligned*>(p) = v;
}
template <class T>
PYFASTNN_INLINE Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // x - 0 is x for every x, so this is a plain broadcast; 0 + x would
                            // cost an addition
}

// ---- the storage types, seen as vectors of their accumulator type
// -------------------------------------------------

// 16-bit storage: as many values as there are float lanes.
typedef uint16_t U16 __attribute__((vector_size(kVectorBytes / 2)));
typedef uint16_t U16Unaligned __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
using U32 = Vec<uint32_t>;

PYFASTNN_INLINE U16 load_u16(const void* p) { return *static_cast<const U16Unaligned*>(p); }

// GCC may load a vector again for every use, as operand of the instruction that uses it.
template <class V>
PYFASTNN_INLINE void keep_in_register(V& vector) {
#if defined(__x86_64__)
  asm("" : "+v"(vector));
#endif
}

PYFASTNN_INLINE Vec<float> widen(BFloat16, U16 bits) {
  return reinterpret_cast<Vec<float>>(__builtin_convertvector(bits, U32) << 16);
}
PYFASTNN_INLINE Vec<float> widen(Half, U16 bits) { return half_to_float(bits); }

PYFASTNN_INLINE U16 narrow(BFloat16, Vec<float> v) {
  const U32 bits = reinterpret_cast<U32>(v);
  const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const U32 quiet = (bits >> 16) | 0x40u;  // a NaN must not round to infinity
  const U32 result = (v == v) ? rounded : quiet;
  return __builtin_convertvector(result, U16);
}
PYFASTNN_INLINE U16 narrow(Half, Vec<float> v) { return float_to_half(v); }

PYFASTNN_INLINE Vec<float> load(const float* p) { return load_vector<float>(p); }
PYFASTNN_INLINE Vec<double> load(const double* p) { return load_vector<double>(p); }
template <class S>
PYFASTNN_INLINE Vec<float> load(const S* p) {
  return widen(S{}, load_u16(p));
}

PYFASTNN_INLINE void store(float* p, Vec<float> v) { store_vector<float>(p, v); }
PYFASTNN_INLINE void store(double* p, Vec<double> v) { store_vector<double>(p, v); }
template <class S>
PYFASTNN_INLINE void store(S* p, Vec<float> v) {
  *reinterpret_cast<U16Unaligned*>(p) = narrow(S{}, v);
}

// The first n < lanes values; the rest reads as zero and is not written.
PYFASTNN_INLINE Vec<float> load_n(const float* p, int64_t n) { return load_tail(p, n); }
PYFASTNN_INLINE Vec<double> load_n(const double* p, int64_t n) { return load_tail(p, n); }
template <class S>
PYFASTNN_INLINE Vec<float> load_n(const S* p, int64_t n) {
  return widen(S{}, load_tail(&p->bits, n));
}
template <class S>
PYFASTNN_INLINE U16 load_u16_up_to(const S* p, int64_t n) {
  return n >= kLanes<float> ? load_u16(p) : load_tail(&p->bits, n);
}

PYFASTNN_INLINE void store_n(float* p, Vec<float> v, int64_t n) { store_tail(p, v, n); }
PYFASTNN_INLINE void store_n(double* p, Vec<double> v, int64_t n) { store_tail(p, v, n); }
template <class S>
PYFASTNN_INLINE void store_n(S* p, Vec<float> v, int64_t n) {
  store_tail(&p->bits, narrow(S{}, v), n);
}

template <class S>
PYFASTNN_INLINE Vec<Accumulator<S>> load_up_to(const S* p, int64_t n) {
  return n >= kLanes<Accumulator<S>> ? load(p) : load_n(p, n);
}
template <class S>
PYFASTNN_INLINE void store_up_to(S* p, Vec<Accumulator<S>> v, int64_t n) {
  if (n >= kLanes<Accumulator<S>>) {
    store(p, v);
  } else {
    store_n(p, v, n);
  }
}

// ---- transposition in registers
// ------------------------------------------------------------------------------------

template <int... I>
struct Indices {};
template <int N, int... I>
struct IndicesUpTo : IndicesUpTo<N - 1, N - 1, I...> {};
template <int... I>
struct IndicesUpTo<0, I...> {
  using type = Indices<I...>;
};

// In every lane of 16 bytes: a0 b0 a1 b1 ... of its lower (kHalf = 0) or upper (kHalf = 1) half.
template <int kHalf, int kLane, class V, int... I>
PYFASTNN_INLINE V interleave(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b,
                                 (I / kLane * kLane + kHalf * kLane / 2 + I % kLane / 2 +
                                  (I % 2) * static_cast<int>(sizeof...(I)))...);
}

// In every lane of 16 bytes: x[i][j] <-> x[j][i]. Each round shuffles row i with row i + kSize / 2,
// which rotates the bits of (row, element) by one place; after all rounds row and element have
// changed places.
template <class T, int kBytes, int kSize = 16 / static_cast<int>(sizeof(T))>
PYFASTNN_INLINE void transpose_lanes(Vec<T, kBytes> (&x)[kSize]) {
  typename IndicesUpTo<kLanes<T, kBytes>>::type indices;
#pragma GCC unroll 2
  for (int round = 1; round < kSize; round *= 2) {
    Vec<T, kBytes> t[kSize];
#pragma GCC unroll 2
    for (int i = 0; i < kSize / 2; ++i) {
      t[2 * i] = interleave<0, kSize>(x[i], x[i + kSize / 2], indices);
      t[2 * i + 1] = interleave<1, kSize>(x[i], x[i + kSize / 2], indices);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kSize; ++i) x[i] = t[i];
  }
}
