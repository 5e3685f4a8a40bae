// Losses, optimizers and conversion of data. Included by each isa/*.cpp (see vector-inl.h for the
// rules), which provides square_root() of a vector.

// e^x for x <= 0; 0 below the smallest normal number. Relative error about 2 units in the last
// place: x = n ln 2 + r, e^r by its series, 2^n through the exponent bits.
template <class P>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  using Int = int32_t;
  static constexpr int kTerms = 7, kMantissa = 23;
  static constexpr float kMin = -87.0f, kMagic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
};
template <>
struct ExpConstants<double> {
  using Int = int64_t;
  static constexpr int kTerms = 13, kMantissa = 52;
  static constexpr double kMin = -708.0, kMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
};

template <class P>
PYFASTNN_INLINE Vec<P> exp_of_negative(Vec<P> x) {
  using C = ExpConstants<P>;
  using Bits = Vec<typename C::Int>;
  const Vec<P> shifted = fma(broadcast<P>(C::kMagic), x, broadcast<P>(P(1.4426950408889634)));
  const Vec<P> n = shifted - C::kMagic;
  Vec<P> r = fma(x, n, broadcast<P>(-C::kLn2High));
  r = fma(r, n, broadcast<P>(-C::kLn2Low));
  // Horner: 1 + r (1 + r / 2 (1 + r / 3 (...)))
  Vec<P> y = broadcast<P>(1);
#pragma GCC unroll 16
  for (int i = C::kTerms; i > 0; --i) y = fma(broadcast<P>(1), r * P(1.0 / i), y);
  // The low bits of `shifted` are n as an integer; moved to the exponent they multiply by 2^n.
  const Bits power = reinterpret_cast<Bits>(shifted) << C::kMantissa;
  const Vec<P> scaled = reinterpret_cast<Vec<P>>(reinterpret_cast<Bits>(y) + power);
  const Vec<P> result = x < C::kMin ? Vec<P>{} : scaled;
  return x == x ? result : x;
}

template <int kPlaces, class V, int... I>
PYFASTNN_INLINE V rotate(V v, Indices<I...>) {
  return __builtin_shufflevector(v, v, ((I + kPlaces) % static_cast<int>(sizeof...(I)))...);
}

struct Add {
  template <class V>
  PYFASTNN_INLINE static V join(V a, V b) {
    return a + b;
  }
};
struct Larger {
  template <class V>
  PYFASTNN_INLINE static V join(V a, V b) {
    return a > b ? a : b;
  }
};

// All lanes joined: in pairs, pairs of pairs, ... (One after the other, and e^x twice: a row of ten
// classes took twice as long.)
template <class P, class Join, int kPlaces = kLanes<P> / 2>
PYFASTNN_INLINE P join_lanes(Vec<P> v) {
  if constexpr (kPlaces == 0) {
    return v[0];
  } else {
    const Vec<P> other = rotate<kPlaces>(v, typename IndicesUpTo<kLanes<P>>::type());
    return join_lanes<P, Join, kPlaces / 2>(Join::join(v, other));
  }
}

// Cross entropy of the softmax, shifted by the largest output. Label smoothing e mixes the target
// with the uniform distribution: weight 1 - e on the class, e / n on every one.
template <class S>
void cross_entropy(const LossArgs<S>& shared) {
  using P = Accumulator<S>;
  const LossArgs<S> args = shared;
  constexpr int64_t kLane = kLanes<P>;
  const P uniform = static_cast<P>(args.label_smoothing / static_cast<double>(args.n));
  const P scale = static_cast<P>(args.scale);
  for (int64_t i = 0; i < args.rows; ++i) {
    const S* z = args.z + i * args.ld_z;
    S* dz = args.dz + i * args.ld_dz;
    const int64_t target = args.classes[args.index == nullptr ? i : args.index[i]];
    if (target == args.ignore_index) {
      args.losses[i] = 0;
      for (int64_t j = 0; j < args.n; j += kLane) store_up_to(dz + j, Vec<P>{}, args.n - j);
      continue;
    }
    // Lanes beyond n repeat the first output: they change no maximum.
    const Vec<P> first = load_up_to(z, args.n);
    Vec<P> lane;
    for (int q = 0; q < kLane; ++q) lane[q] = static_cast<P>(q);
    Vec<P> largest = broadcast<P>(first[0]);
    Vec<P> total{};
    for (int64_t j = 0; j < args.n; j += kLane) {
      const Vec<P> value = load_up_to(z + j, args.n - j);
      total = total + (lane < static_cast<P>(args.n - j) ? value : Vec<P>{});
      const Vec<P> inside = lane < static_cast<P>(args.n - j) ? value : largest;
      largest = inside > largest ? inside : largest;
    }
    const P max = join_lanes<P, Larger>(largest);
    Vec<P> sums{}, e{};
    for (int64_t j = 0; j < args.n; j += kLane) {
      e = exp_of_negative<P>(load_up_to(z + j, args.n - j) - max);
      sums = sums + (lane < static_cast<P>(args.n - j) ? e : Vec<P>{});
    }
    const P sum = join_lanes<P, Add>(sums);
    P at_target;
    {
      const Vec<P> value = load_up_to(z + target / kLane * kLane, args.n - target / kLane * kLane);
      at_target = value[target % kLane];
    }
    const double log_sum = __builtin_log(static_cast<double>(sum)) + static_cast<double>(max);
    const double mean = args.label_smoothing == 0 ? 0
                                                  : static_cast<double>(join_lanes<P, Add>(total)) /
                                                        static_cast<double>(args.n);
    args.losses[i] = log_sum - (1 - args.label_smoothing) * static_cast<double>(at_target) -
                     args.label_smoothing * mean;
    const P factor = scale / sum;
    const P hit = scale * static_cast<P>(1 - args.label_smoothing);
    for (int64_t j = 0; j < args.n; j += kLane) {
      if (args.n > kLane) e = exp_of_negative<P>(load_up_to(z + j, args.n - j) - max);
      Vec<P> gradient = e * factor - scale * uniform;
      gradient = lane == static_cast<P>(target - j) ? gradient - hit : gradient;
      store_up_to(dz + j, gradient, args.n - j);
    }
  }
}

// Sum of (z - t)^2.
template <class S>
void mean_squared_error(const LossArgs<S>& shared) {
  using P = Accumulator<S>;
  const LossArgs<S> args = shared;
  const P scale = static_cast<P>(2 * args.scale);
  for (int64_t i = 0; i < args.rows; ++i) {
    const P* target = args.targets + (args.index == nullptr ? i : args.index[i]) * args.n;
    Vec<P> sums{};
    for (int64_t j = 0; j < args.n; j += kLanes<P>) {
      const Vec<P> difference =
          load_up_to(args.z + i * args.ld_z + j, args.n - j) - load_up_to(target + j, args.n - j);
      sums = fma(sums, difference, difference);
      store_up_to(args.dz + i * args.ld_dz + j, difference * scale, args.n - j);
    }
    args.losses[i] = static_cast<double>(join_lanes<P, Add>(sums));
  }
}

// Sum of max(z, 0) - z t + log(1 + e^-|z|); derivative sigmoid(z) - t.
template <class S>
void bce_with_logits(const LossArgs<S>& shared) {
  using P = Accumulator<S>;
  const LossArgs<S> args = shared;
  const P scale = static_cast<P>(args.scale);
  for (int64_t i = 0; i < args.rows; ++i) {
    const P* targets = args.targets + (args.index == nullptr ? i : args.index[i]) * args.n;
    double sum = 0;
    for (int64_t j = 0; j < args.n; j += kLanes<P>) {
      const Vec<P> z = load_up_to(args.z + i * args.ld_z + j, args.n - j);
      const Vec<P> target = load_up_to(targets + j, args.n - j);
      const Vec<P> e = exp_of_negative<P>(z < 0 ? z : -z);
      const Vec<P> sigmoid = (z < 0 ? e : broadcast<P>(1)) / (e + P(1));
      store_up_to(args.dz + i * args.ld_dz + j, (sigmoid - target) * scale, args.n - j);
      const int64_t count = args.n - j < kLanes<P> ? args.n - j : kLanes<P>;
      for (int64_t q = 0; q < count; ++q) {
        const double value = static_cast<double>(z[q]);
        const double positive = value < 0 ? 0 : value;
        sum += positive - value * static_cast<double>(target[q]) +
               __builtin_log1p(static_cast<double>(e[q]));
      }
    }
    args.losses[i] = sum;
  }
}

template <class S>
void convert_row(const Accumulator<S>* src, int64_t n, Accumulator<S> scale, Accumulator<S> shift,
                 S* dst) {
  using P = Accumulator<S>;
  for (int64_t j = 0; j < n; j += kLanes<P>) {
    store_up_to(dst + j, load_up_to(src + j, n - j) * scale + shift, n - j);
  }
}

template <class S>
void convert_bytes(const uint8_t* src, int64_t n, Accumulator<S> scale, Accumulator<S> shift,
                   S* dst) {
  using P = Accumulator<S>;
  constexpr int kCount = kLanes<P>;
  typedef uint8_t Bytes __attribute__((vector_size(kCount)));
  typedef uint8_t BytesUnaligned __attribute__((vector_size(kCount), aligned(1), may_alias));
  int64_t j = 0;
  for (; j + kCount <= n; j += kCount) {
    const Bytes bytes = *reinterpret_cast<const BytesUnaligned*>(src + j);
    const auto wide = __builtin_convertvector(bytes, Vec<typename ExpConstants<P>::Int>);
    store(dst + j, __builtin_convertvector(wide, Vec<P>) * scale + shift);
  }
  if (j == n) return;
  P rest[kCount];
  for (int64_t q = j; q < n; ++q) rest[q - j] = static_cast<P>(src[q]) * scale + shift;
  store_n(dst + j, load_n(rest, n - j), n - j);
}

template <class P>
double sum_of_squares(const P* x, int64_t n) {
  double total = 0;
  // Short chains in P, the sum of them in double.
  constexpr int64_t kChain = 64 * kLanes<P>;
  for (int64_t start = 0; start < n; start += kChain) {
    const int64_t end = n - start < kChain ? n : start + kChain;
    Vec<P> sums{};
    for (int64_t j = start; j < end; j += kLanes<P>) {
      const Vec<P> value = load_up_to(x + j, end - j);
      sums = fma(sums, value, value);
    }
    total += static_cast<double>(join_lanes<P, Add>(sums));
  }
  return total;
}

template <class S>
constexpr TrainingKernels<S> make_training_kernels() {
  TrainingKernels<S> kernels{{cross_entropy<S>, mean_squared_error<S>, bce_with_logits<S>},
                             convert_row<S>,
                             convert_bytes<S>,
                             nullptr,
                             nullptr,
                             nullptr};
  if constexpr (__is_same(S, Accumulator<S>)) {
    kernels.sgd = sgd<S>;
    kernels.adam = adam<S>;
    kernels.sum_of_squares = sum_of_squares<S>;
  }
  return kernels;
}
