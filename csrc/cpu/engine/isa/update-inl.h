// What optimizers do with a vector of the gradient, and where gradients come from. Included by each
// isa/*.cpp (see vector-inl.h for the rules).

template <class P, bool kWhole>
PYFASTNN_INLINE Vec<P> load_part(const P* p, int64_t n) {
  return kWhole ? load(p) : load_up_to(p, n);
}
template <class P, bool kWhole>
PYFASTNN_INLINE void store_part(P* p, Vec<P> v, int64_t n) {
  if constexpr (kWhole) {
    store(p, v);
  } else {
    store_up_to(p, v, n);
  }
}

// Parameters that do not fit the cache are fetched so many bytes ahead, while sums are made
// (4096-4096, 16 rows, Zen 4: 25 -> 19 ms a step; others unchanged).
constexpr int kBytesAhead = 1024;
template <class P>
PYFASTNN_INLINE void fetch_ahead(const P* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + kBytesAhead, /*write=*/1);
}

// update.run<kWhole>(row, column, gradient) for every vector of a block. By value: otherwise every
// number would be loaded again after each write.
template <class P, class Update>
PYFASTNN_INLINE void for_each_vector(Update update) {
  UpdateBlock<P>& block = update.args.block;
  const Gradient<P> g = block.gradient;
  if (g.data == nullptr) {
    short_product(ShortProduct<P>{block.rows, block.n, g.batch_rows, g.left, 1, g.ld_left, g.right,
                                  g.ld_right},
                  update);
    return;
  }
  if (block.ld == block.n && g.ld == block.n) {
    block.n *= block.rows;
    block.rows = 1;
  }
  for (int64_t i = 0; i < block.rows; ++i) {
    const P* row = g.data + i * g.ld;
    int64_t j = 0;
    for (; j + kLanes<P> <= block.n; j += kLanes<P>) update.template run<true>(i, j, load(row + j));
    if (j < block.n) update.template run<false>(i, j, load_up_to(row + j, block.n - j));
  }
}

// Adds the squares of a vector to sums in double, lane by lane.
template <class P>
PYFASTNN_INLINE void add_squares(double* sums, Vec<P> v) {
  constexpr int kBytes = kLanes<P> * static_cast<int>(sizeof(double));
  using Wide = Vec<double, kBytes>;
  const Wide wide = __builtin_convertvector(v, Wide);
  auto* all = reinterpret_cast<typename VectorOf<double, kBytes>::unaligned*>(sums);
  *all = *all + wide * wide;
}

template <class P, class Update>
PYFASTNN_INLINE void update_vectors(Update update) {
  double* total = update.args.block.squares;
  double sums[kLanes<P>] = {};
  if (total != nullptr) update.args.block.squares = sums;
  for_each_vector<P>(update);
  for (int q = 0; total != nullptr && q < kLanes<P>; ++q) *total += sums[q];
}

template <class P, bool kMomentum>
struct SgdUpdate {
  SgdArgs<P> args;
  P fresh;

  template <bool kWhole>
  PYFASTNN_INLINE void run(int64_t i, int64_t j, Vec<P> gradient) const {
    const int64_t at = i * args.block.ld + j, left = args.block.n - j;
    const Vec<P> p = load_part<P, kWhole>(args.p + at, left);
    if (args.block.squares != nullptr) add_squares<P>(args.block.squares, p);
    Vec<P> step = gradient * args.block.grad_scale;
    fetch_ahead(args.p + at);
    if (args.weight_decay != 0) step = fma(step, p, broadcast<P>(args.weight_decay));
    if constexpr (kMomentum) {
      P* buffer = args.buffer + at;
      const Vec<P> momentum =
          args.first ? step : load_part<P, kWhole>(buffer, left) * args.momentum + step * fresh;
      store_part<P, kWhole>(buffer, momentum, left);
      step = args.nesterov ? step + momentum * args.momentum : momentum;
    }
    store_part<P, kWhole>(args.p + at, p - step * args.lr, left);
  }
};

template <class P>
void sgd(const SgdArgs<P>& args) {
  if (args.buffer == nullptr) {
    update_vectors<P>(SgdUpdate<P, false>{args, 0});
  } else {
    update_vectors<P>(SgdUpdate<P, true>{args, 1 - args.dampening});
  }
}

template <class P>
struct AdamUpdate {
  AdamArgs<P> args;

  template <bool kWhole>
  PYFASTNN_INLINE void run(int64_t i, int64_t j, Vec<P> gradient) const {
    const int64_t at = i * args.block.ld + j, left = args.block.n - j;
    const Vec<P> p = load_part<P, kWhole>(args.p + at, left);
    if (args.block.squares != nullptr) add_squares<P>(args.block.squares, p);
    Vec<P> grad = gradient * args.block.grad_scale;
    fetch_ahead(args.p + at);
    fetch_ahead(args.exp_avg + at);
    fetch_ahead(args.exp_avg_sq + at);
    if (args.weight_decay != 0) grad = fma(grad, p, broadcast<P>(args.weight_decay));
    Vec<P> mean = load_part<P, kWhole>(args.exp_avg + at, left);
    mean = mean + (grad - mean) * args.one_minus_beta1;
    store_part<P, kWhole>(args.exp_avg + at, mean, left);
    const Vec<P> square = load_part<P, kWhole>(args.exp_avg_sq + at, left) * args.beta2 +
                          grad * grad * args.one_minus_beta2;
    store_part<P, kWhole>(args.exp_avg_sq + at, square, left);
    const Vec<P> size = square_root(square) * args.inverse_bias2_sqrt + args.eps;
    store_part<P, kWhole>(args.p + at, p * args.decay - mean / size * args.step_size, left);
  }
};

template <class P>
void adam(const AdamArgs<P>& args) {
  update_vectors<P>(AdamUpdate<P>{args});
}
