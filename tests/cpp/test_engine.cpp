// The engine alone, without torch: every ISA, every storage type, all edges of tiles, panels and
// blocks.
//
// Inputs are small integers, so every result is exact in any order of summation and must equal the
// reference to the bit. Random inputs are used where the claim is "the same bits", whatever the
// batch, the tile or the threads.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "cpu/engine/isa.h"
#include "cpu/engine/network.h"
#include "cpu/engine/packed.h"
#include "guarded.h"
#include "reference.h"
#include "test_engine.h"

namespace pyfastnn::engine {
extern std::atomic<int> test_threads;
}

namespace engine = pyfastnn::engine;
using reference::LayerShape;
using reference::Numbers;
using test::Guarded;

namespace {

int64_t checks = 0;
int64_t failures = 0;

}  // namespace

void test::expect(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  if (++failures <= 20) std::fprintf(stderr, "FAILED %s\n", what.c_str());
}

namespace {

using test::expect;

std::mt19937 generator(1);

Numbers integers(int64_t count, int limit) { return reference::integers(generator, count, limit); }

// Integers so small that sums stay exact in S: 8 bits of mantissa for bfloat16, 11 for float16.
template <class S>
int limit_for(int64_t terms) {
  return sizeof(S) == 2 && terms > 100 ? 1 : 2;
}
template <class S>
double largest_exact() {
  return std::is_same_v<S, engine::BFloat16> ? 256
         : std::is_same_v<S, engine::Half>   ? 2048
                                             : 1 << 20;
}
bool all_within(const Numbers& numbers, double limit) {
  for (double x : numbers) {
    if (std::abs(x) >= limit) return false;
  }
  return true;
}

// Weights that are packed once give what weights that are packed on the way give.
template <class S>
void check_packed(const reference::Network& net, const std::vector<engine::Layer<S>>& layers,
                  int64_t rows, engine::Matrix<const S> x, const Numbers& wanted, bool exact,
                  const std::string& name) {
  const engine::PackedNetwork<S> packed(layers);
  if (exact) {
    Guarded<S> y(rows, layers.back().out, 1);
    packed.forward(rows, x, y.mutable_view());
    expect(y.equals(wanted), name + " packed");
    expect(y.guards_are_intact(), name + " packed wrote outside the output");
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    Guarded<S> weight(layers[l].out, layers[l].in, 0);
    packed.unpack(static_cast<int64_t>(l), weight.data());
    expect(weight.equals(net.weights[l]), name + " unpacked layer " + std::to_string(l));
    expect(weight.guards_are_intact(), name + " unpacked outside layer " + std::to_string(l));
  }
}

template <class S>
void check_network(const std::vector<LayerShape>& shapes, int64_t rows, int64_t gap,
                   const std::string& name) {
  reference::Network net{shapes, {}, {}};
  for (const LayerShape& shape : shapes) {
    net.weights.push_back(integers(shape.in * shape.out, 1));
    net.biases.push_back(integers(shape.out, 2));
  }
  const int64_t in = shapes.front().in, out = shapes.back().out;
  const Numbers x = integers(rows * in, limit_for<S>(in));
  const Numbers dy = integers(rows * out, 1);
  const auto wanted = reference::forward(net, rows, x);
  const auto wanted_grads = reference::backward(net, rows, x, wanted, dy);

  Guarded<S> x_s(rows, in, gap, x), dy_s(rows, out, gap, dy), dx_s(rows, in, 0);
  std::vector<Guarded<S>> weights, biases, outputs, dw, db;
  std::vector<engine::Layer<S>> layers;
  for (size_t l = 0; l < shapes.size(); ++l) {
    weights.emplace_back(shapes[l].out, shapes[l].in, gap, net.weights[l]);
    biases.emplace_back(1, shapes[l].out, 0, net.biases[l]);
    outputs.emplace_back(rows, shapes[l].out, 0);
    dw.emplace_back(shapes[l].out, shapes[l].in, 0);
    db.emplace_back(1, shapes[l].out, 0);
  }
  std::vector<engine::Matrix<S>> output_views;
  std::vector<engine::Matrix<const S>> activated;
  engine::Gradients<S> gradients;
  gradients.input = dx_s.data();
  for (size_t l = 0; l < shapes.size(); ++l) {
    layers.push_back({{weights[l].data(), weights[l].view().ld, engine::Layout::kRows},
                      shapes[l].bias ? biases[l].data() : nullptr,
                      shapes[l].in,
                      shapes[l].out,
                      shapes[l].relu});
    output_views.push_back(outputs[l].mutable_view());
    if (shapes[l].relu) activated.push_back(outputs[l].view());
    gradients.weights.push_back(dw[l].data());
    gradients.biases.push_back(db[l].data());
  }
  engine::forward<S>(layers, rows, x_s.view(), output_views);
  bool exact = true;
  for (size_t l = 0; l < shapes.size(); ++l) {
    exact = exact && all_within(wanted[l], largest_exact<S>());
    if (!exact) break;
    expect(outputs[l].equals(wanted[l]), name + " output of layer " + std::to_string(l));
    expect(outputs[l].guards_are_intact(), name + " wrote outside the output");
  }
  check_packed<S>(net, layers, rows, x_s.view(), wanted.back(), exact, name);
  if (!exact) return;
  engine::backward<S>(layers, rows, x_s.view(), activated, dy_s.view(), gradients);
  for (size_t l = shapes.size(); l-- > 0;) {
    if (all_within(wanted_grads.weights[l], largest_exact<S>())) {
      expect(dw[l].equals(wanted_grads.weights[l]), name + " dW of layer " + std::to_string(l));
      expect(dw[l].guards_are_intact(), name + " wrote outside dW");
    }
    if (all_within(wanted_grads.biases[l], largest_exact<S>())) {
      expect(db[l].equals(wanted_grads.biases[l]), name + " db of layer " + std::to_string(l));
      expect(db[l].guards_are_intact(), name + " wrote outside db");
    }
  }
  if (all_within(wanted_grads.input, largest_exact<S>())) {
    expect(dx_s.equals(wanted_grads.input), name + " dX");
    expect(dx_s.guards_are_intact(), name + " wrote outside dX");
  }
}

template <class S>
void check_layer(int64_t m, int64_t n, int64_t k, int64_t gap, const std::string& type) {
  const std::string name = engine::active_isa() + " " + type + " M=" + std::to_string(m) +
                           " N=" + std::to_string(n) + " K=" + std::to_string(k) +
                           " gap=" + std::to_string(gap);
  check_network<S>({{k, n, m % 2 == 0, true}}, m, gap, name);
}

template <class S>
void check_exact(const std::string& type) {
  const auto& kernels = engine::active_kernels<S>();
  const int64_t lanes = kernels.lanes, rows = kernels.max_rows[engine::kPanelVectors];
  const int64_t panel = lanes * engine::kPanelVectors;
  // Every row count of the register tile, every column tail, every small k.
  for (int64_t m = 1; m <= 2 * rows + 1; ++m) check_layer<S>(m, panel + 1, 7, 3, type);
  for (int64_t n = 1; n <= 2 * panel + 1; n += lanes > 4 && n > lanes ? 3 : 1)
    check_layer<S>(rows + 1, n, 9, 0, type);
  for (int64_t k = 1; k <= 2 * lanes + 1; ++k) check_layer<S>(5, lanes + 1, k, 1, type);
  // Few rows with wide panels and with weights read in place, whole vectors and not.
  for (int64_t m = 1; m <= kernels.max_rows_transposed + 1; ++m) {
    for (int64_t n : {lanes, panel, 2 * panel, 3 * lanes, 2 * panel + 1}) {
      for (int64_t k : {2 * lanes + 3, int64_t{270}}) check_layer<S>(m, n, k, 0, type);
    }
  }
  // Every rest of a sum in chains, in one block of k and in two.
  for (int64_t k : {256, 1024}) {
    for (int64_t rest = 1; rest <= 2 * lanes; ++rest)
      check_layer<S>(2, 2 * panel, k + rest, 0, type);
  }
  // Blocks of k, in units and in pairs; a leading dimension whose rows share a cache set; nothing
  // to sum.
  for (int64_t k : {0, 255, 256, 257, 300, 511, 512, 513, 1024})
    check_layer<S>(4, panel + lanes, k, 0, type);
  check_layer<S>(rows, panel, 512, 0, type);
  check_layer<S>(3, 0, 5, 0, type);
  check_layer<S>(0, 5, 3, 0, type);
  // Rows of dZ so far apart, and so many panels of X, that dZ is packed by register tiles.
  check_layer<S>(21, 530, 16 * panel + 3, 0, type);
  // More rows than a tile, so that weights are packed for all; and a sum over them in several
  // blocks.
  check_layer<S>(700, panel + 3, 5, 2, type);
  check_layer<S>(530, 3, panel + 1, 0, type);
  // More rows than backward takes at a time, with a small rest and with a large one.
  check_layer<S>(4100, 3, 2, 0, type);
  check_layer<S>(8800, 2, 5, 1, type);
}

template <class S>
void check_networks(const std::string& type) {
  for (int64_t rows : {1, 5, 64, 600, 4500}) {
    for (bool activate_last : {false, true}) {
      const std::string name =
          engine::active_isa() + " " + type + " network, rows=" + std::to_string(rows);
      check_network<S>({{7, 33, true, true}, {33, 16, false, true}, {16, 3, true, activate_last}},
                       rows, 2, name);
    }
  }
}

template <class S>
std::vector<S> random_values(int64_t count) {
  std::normal_distribution<float> distribution;
  std::vector<S> values(count);
  for (S& x : values) reference::set(x, distribution(generator));
  return values;
}

template <class S>
bool same_bits(const std::vector<S>& a, const std::vector<S>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(S)) == 0;
}

// One row alone gives the bits it gives in any batch; gradients have the same bits with 1, 2 and 3
// threads.
template <class S>
void check_same_bits(int64_t n, int64_t k, const std::string& type) {
  constexpr int64_t kRows = 613;
  auto x = random_values<S>(kRows * k), w = random_values<S>(n * k), b = random_values<S>(n);
  auto dy = random_values<S>(kRows * n);
  const std::vector<engine::Layer<S>> layers{
      {{w.data(), k, engine::Layout::kRows}, b.data(), k, n, true}};
  auto run = [&](int64_t first, int64_t rows) {
    std::vector<S> y(rows * n);
    engine::forward<S>(layers, rows, {x.data() + first * k, k}, {{y.data(), n}});
    return y;
  };
  const engine::PackedNetwork<S> packed(layers);
  const std::string name =
      engine::active_isa() + " " + type + " " + std::to_string(k) + "-" + std::to_string(n);
  const std::vector<S> whole = run(0, kRows);
  for (int64_t rows : {1, 2, 3, 7, 8, 9, 13, 48, 49, 200, 500}) {
    for (int64_t first : {int64_t{0}, kRows - rows}) {
      const auto part = run(first, rows);
      expect(same_bits(part, std::vector<S>(whole.begin() + first * n,
                                            whole.begin() + (first + rows) * n)),
             name + ": batch of " + std::to_string(rows) + " differs");
      std::vector<S> y(rows * n);
      packed.forward(rows, {x.data() + first * k, k}, {y.data(), n});
      expect(same_bits(part, y), name + ": packed batch of " + std::to_string(rows) + " differs");
    }
  }
  struct Result {
    std::vector<S> y, dx, dw, db;
  };
  std::vector<Result> results;
  for (int threads : {1, 2, 3}) {
    engine::test_threads = threads;
    Result r{run(0, kRows), std::vector<S>(kRows * k), std::vector<S>(n * k), std::vector<S>(n)};
    engine::backward<S>(layers, kRows, {x.data(), k}, {{r.y.data(), n}}, {dy.data(), n},
                        {r.dx.data(), {r.dw.data()}, {r.db.data()}});
    results.push_back(std::move(r));
  }
  engine::test_threads = 1;
  for (const Result& r : results) {
    expect(same_bits(r.y, results[0].y) && same_bits(r.dx, results[0].dx) &&
               same_bits(r.dw, results[0].dw) && same_bits(r.db, results[0].db),
           name + ": bits depend on the number of threads");
  }
}

template <class S>
void check_type(const std::string& type) {
  check_exact<S>(type);
  check_networks<S>(type);
  check_same_bits<S>(40, 300, type);
  check_same_bits<S>(73, 1030, type);
  check_same_bits<S>(512, 64, type);
}

}  // namespace

int main() {
  for (const std::string& isa : engine::available_isas()) {
    engine::set_isa(isa);
    check_type<float>("float32");
    check_type<double>("float64");
    check_type<engine::BFloat16>("bfloat16");
    check_type<engine::Half>("float16");
    for (const auto check :
         {test::check_training, test::check_columns, test::check_zeros, test::check_sparse})
      check();
    std::printf("%s: %lld checks so far\n", isa.c_str(), static_cast<long long>(checks));
  }
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(checks - failures),
              static_cast<long long>(failures));
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
