// One training step on small integers: squared error, plain SGD with a learning rate of 1, so that
// loss, gradients and updated parameters are exact and must equal the reference to the bit.
#include <random>
#include <string>
#include <type_traits>

#include "cpu/engine/isa.h"
#include "cpu/engine/train.h"
#include "reference.h"
#include "test_engine.h"

namespace engine = pyfastnn::engine;
using reference::LayerShape;
using reference::Numbers;

namespace {

std::mt19937 generator(2);

Numbers integers(int64_t count, int limit) { return reference::integers(generator, count, limit); }

template <class T>
std::vector<T> stored(const Numbers& numbers) {
  std::vector<T> values(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) reference::set(values[i], numbers[i]);
  return values;
}

// Of W[out, in] in memory.
int64_t place(int64_t i, const LayerShape& shape, bool by_columns) {
  return by_columns ? i % shape.in * shape.out + i / shape.in : i;
}

template <class S>
void check_layout(const std::vector<LayerShape>& shapes, int64_t rows, bool keep, bool by_columns,
                  const std::string& name, bool weighs) {
  using P = engine::Accumulator<S>;
  reference::Network net{shapes, {}, {}};
  std::vector<std::vector<P>> weights, biases;
  std::vector<engine::TrainedLayer<P>> layers;
  for (const LayerShape& shape : shapes) {
    net.weights.push_back(integers(shape.in * shape.out, 1));
    net.biases.push_back(integers(shape.out, 1));
    weights.push_back(stored<P>(net.weights.back()));
    for (int64_t i = 0; i < shape.in * shape.out; ++i)
      reference::set(weights.back()[place(i, shape, by_columns)], net.weights.back()[i]);
    biases.push_back(stored<P>(net.biases.back()));
  }
  engine::UpdateRule rule;
  rule.lr = 1;
  for (size_t l = 0; l < shapes.size(); ++l) {
    const auto [in, out, bias, relu] = shapes[l];
    engine::Parameter<P> weight{weights[l].data(), in * out, true, true, rule, {}};
    engine::Parameter<P> b;
    if (bias) b = {biases[l].data(), out, true, true, rule, {}};
    layers.push_back({in, out, relu, weight, b, by_columns});
  }
  const int64_t in = shapes.front().in, out = shapes.back().out;
  const Numbers x = integers(rows * in, 1), targets = integers(rows * out, 1);
  const Numbers row_weights = weighs ? integers(rows, 1) : Numbers(rows, 1);
  const auto x_s = stored<P>(x), targets_s = stored<P>(targets), weights_s = stored<P>(row_weights);
  const auto outputs = reference::forward(net, rows, x);
  Numbers dy = outputs.back();
  double want = 0;
  for (size_t i = 0; i < dy.size(); ++i) {
    const double weight = row_weights[i / out];
    want += weight * (dy[i] - targets[i]) * (dy[i] - targets[i]);
    dy[i] = weight * 2 * (dy[i] - targets[i]);
  }
  if (std::is_same_v<S, engine::BFloat16>) {  // 8 bits of mantissa
    for (const Numbers& y : outputs) {
      for (double v : y) {
        if (std::abs(v) > 64) return;
      }
    }
  }
  const auto grads = reference::backward(net, rows, x, outputs, dy);
  engine::Batch<P> batch;
  batch.rows = rows;
  batch.x = x_s.data();
  batch.ld = in;
  batch.targets = targets_s.data();
  if (weighs) batch.row_weights = weights_s.data();
  double squares = 0;
  for (const Numbers& weight : net.weights) {
    for (double w : weight) squares += w * w;
  }
  test::expect(engine::squared_weights(layers) == squares, name + " squares");
  engine::Loss loss{engine::LossKind::kMse, 0, 0};
  std::vector<P> kept(keep ? engine::gradient_count(layers) : 0);
  const double got = engine::train_step<S>(layers, loss, batch, 1, keep ? kept.data() : nullptr);
  if (keep) engine::apply_gradients<P>(layers, kept.data(), 1);
  test::expect(got == want, name + " loss");
  for (size_t l = 0; l < shapes.size(); ++l) {
    bool right = true;
    for (size_t i = 0; i < weights[l].size(); ++i)
      right = right && static_cast<double>(weights[l][place(i, shapes[l], by_columns)]) ==
                           net.weights[l][i] - grads.weights[l][i];
    test::expect(right, name + " weight of layer " + std::to_string(l));
    right = true;
    for (size_t i = 0; shapes[l].bias && i < biases[l].size(); ++i)
      right = right && static_cast<double>(biases[l][i]) == net.biases[l][i] - grads.biases[l][i];
    test::expect(right, name + " bias of layer " + std::to_string(l));
  }
}

template <class S>
void check_step(const std::vector<LayerShape>& shapes, int64_t rows, bool keep,
                const std::string& name, bool weighs = false) {
  check_layout<S>(shapes, rows, keep, false, name, weighs);
  check_layout<S>(shapes, rows, keep, true, name + " by columns", weighs);
}

template <class S>
void check_type(const std::string& type) {
  for (int64_t rows : {0, 1, 2, 9, 17, 40, 300, 4500}) {
    for (bool keep : {false, true}) {
      const std::string name = engine::active_isa() + " " + type +
                               " training, rows=" + std::to_string(rows) + (keep ? " kept" : "");
      check_step<S>({{3, 2, true, false}}, rows, keep, name);
      check_step<S>({{5, 33, false, true}, {33, 3, true, false}}, rows, keep, name);
      check_step<S>({{2, 4, true, false}, {4, 3, true, true}}, rows, keep, name);
      if (!std::is_same_v<S, engine::BFloat16>)
        check_step<S>({{4, 6, true, true}, {6, 2, true, false}}, rows, keep, name + " weighted",
                      true);
    }
  }
  check_step<S>({{140, 70, true, false}}, 20, false, engine::active_isa() + " " + type + " wide");
  // Rows of X that share cache sets, with so few of them that dW is never written.
  check_step<S>({{512, 5, true, false}}, 12, false, engine::active_isa() + " " + type + " sets");
  // Weights beyond what goes tile by tile.
  check_step<S>({{1030, 300, false, true}, {300, 2, true, false}}, 140, false,
                engine::active_isa() + " " + type + " layer by layer");
}

}  // namespace

void test::check_training() {
  check_type<float>("float32");
  check_type<double>("float64");
  check_type<engine::BFloat16>("bfloat16");
}
