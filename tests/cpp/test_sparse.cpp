// A layer with sparse input on small integers, forward, backward and trained, against the dense
// reference: exact in every order of summation. Rows are empty, unsorted, with duplicates and with
// stored zeros.
#include <random>
#include <string>

#include "cpu/engine/isa.h"
#include "cpu/engine/sparse.h"
#include "cpu/engine/sparse_train.h"
#include "guarded.h"
#include "reference.h"
#include "test_engine.h"

namespace engine = pyfastnn::engine;
using reference::LayerShape;
using reference::Numbers;
using test::Guarded;

namespace {

std::mt19937 generator(3);

Numbers integers(int64_t count, int limit) { return reference::integers(generator, count, limit); }

// Some rows of a sparse matrix, and the same dense.
template <class S, class I>
struct Matrix {
  std::vector<I> begin{0}, column;
  std::vector<S> values;
  Numbers dense;

  Matrix(int64_t rows, int64_t columns, int64_t most) : dense(rows * columns) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t entries = columns == 0 ? 0 : static_cast<int64_t>(generator() % (most + 1));
      for (int64_t e = 0; e < entries; ++e) add(i, generator() % columns, columns);
      begin.push_back(static_cast<I>(column.size()));
    }
  }
  void add(int64_t row, int64_t at, int64_t columns) {
    const double value = static_cast<int>(generator() % 3) - 1;
    column.push_back(static_cast<I>(at));
    values.emplace_back();
    reference::set(values.back(), value);
    dense[row * columns + at] += value;
  }
  engine::SparseInput<S> input(int64_t columns) const {
    return {columns, begin.data(), column.data(), sizeof(I) == 8, values.data()};
  }
};

Numbers transposed(const Numbers& matrix, int64_t rows, int64_t columns) {
  Numbers result(matrix.size());
  for (int64_t i = 0; i < rows * columns; ++i) result[i % columns * rows + i / columns] = matrix[i];
  return result;
}

template <class S, class I>
void check_layer(int64_t rows, int64_t in, int64_t out, int64_t most, bool relu, bool by_columns,
                 const std::string& name) {
  const Matrix<S, I> x(rows, in, most);
  const reference::Network net{
      {{in, out, true, relu}}, {integers(in * out, 1)}, {integers(out, 1)}};
  const Numbers dy = integers(rows * out, 1);
  const auto outputs = reference::forward(net, rows, x.dense);
  const auto want = reference::backward(net, rows, x.dense, outputs, dy);
  Guarded<S> weight = by_columns ? Guarded<S>(in, out, 3, transposed(net.weights[0], out, in))
                                 : Guarded<S>(out, in, 3, net.weights[0]);
  Guarded<S> bias(1, out, 0, net.biases[0]), dy_s(rows, out, 2, dy), y(rows, out, 1);
  const engine::SparseLayer<S> layer{
      {weight.data(), weight.view().ld,
       by_columns ? engine::Layout::kColumns : engine::Layout::kRows},
      bias.data(),
      in,
      out,
      relu};
  engine::sparse_forward<S>(layer, x.input(in), rows, y.mutable_view());
  test::expect(y.equals(outputs[0]) && y.guards_are_intact(), name + " forward");

  const int64_t entries = static_cast<int64_t>(x.values.size());
  Guarded<S> values(1, entries, 0), db(1, out, 0);
  Guarded<S> dw(by_columns ? in : out, by_columns ? out : in, 0);
  engine::sparse_backward<S>(layer, x.input(in), rows, y.view(), dy_s.view(),
                             {values.data(), dw.data(), db.data()});
  Numbers of_entries;
  for (int64_t i = 0; i < rows; ++i) {
    for (I e = x.begin[i]; e < x.begin[i + 1]; ++e)
      of_entries.push_back(want.input[i * in + x.column[e]]);
  }
  test::expect(values.equals(of_entries) && values.guards_are_intact(), name + " values");
  test::expect(dw.equals(by_columns ? transposed(want.weights[0], out, in) : want.weights[0]) &&
                   dw.guards_are_intact(),
               name + " weight");
  test::expect(db.equals(want.biases[0]) && db.guards_are_intact(), name + " bias");
}

template <class S>
void check_type(const std::string& type) {
  for (int64_t out : {1, 3, 4, 9, 16, 17, 33, 40, 128, 131, 150}) {
    for (bool by_columns : {false, true}) {
      for (bool relu : {false, true}) {
        const std::string name = engine::active_isa() + " sparse " + type +
                                 " out=" + std::to_string(out) + (relu ? " relu" : "") +
                                 (by_columns ? " by columns" : "");
        check_layer<S, int32_t>(5, 70, out, 9, relu, by_columns, name);
        check_layer<S, int64_t>(13, 530, out, 40, relu, by_columns, name);
      }
    }
  }
  for (int64_t rows : {0, 1, 2}) {
    check_layer<S, int64_t>(rows, 3, 5, 2, true, false, type + " few rows");
    check_layer<S, int32_t>(rows, 0, 5, 2, true, false, type + " no columns");
    check_layer<S, int32_t>(rows, 65, 0, 4, true, true, type + " no outputs");
  }
  check_layer<S, int32_t>(2, 3, 5, 600, true, false, type + " several blocks of entries");
}

// A step of SGD with rate 1 on squared errors, of rows in another order. With a decay of 1 every
// weight changes where absent columns count.
template <class P>
void check_step(const std::vector<LayerShape>& shapes, int64_t most, double decay,
                engine::AbsentColumns absent, bool clips, bool by_columns,
                const std::string& name) {
  const int64_t rows = 11, in = shapes.front().in, out = shapes.back().out;
  const Matrix<P, int32_t> x(rows, in, most);
  reference::Network net{shapes, {}, {}};
  std::vector<std::vector<P>> weights, biases;
  std::vector<engine::TrainedLayer<P>> layers;
  for (const LayerShape& shape : shapes) {
    net.weights.push_back(integers(shape.in * shape.out, 1));
    net.biases.push_back(integers(shape.out, 1));
    const Numbers lying = by_columns && weights.empty()
                              ? transposed(net.weights.back(), shape.out, shape.in)
                              : net.weights.back();
    weights.emplace_back(lying.begin(), lying.end());
    biases.emplace_back(net.biases.back().begin(), net.biases.back().end());
  }
  engine::UpdateRule rule;
  rule.lr = 1;
  for (size_t l = 0; l < shapes.size(); ++l) {
    engine::UpdateRule of_weight = rule;
    if (l == 0) of_weight.weight_decay = decay;
    const LayerShape& shape = shapes[l];
    engine::Parameter<P> weight{weights[l].data(), shape.in * shape.out, true, true, of_weight, {}};
    engine::Parameter<P> bias{biases[l].data(), shape.out, true, true, rule, {}};
    layers.push_back({shape.in, shape.out, shape.relu, weight, bias, by_columns && l == 0});
  }
  const std::vector<int64_t> order{7, 0, 3, 3, 10};
  const int64_t taken = static_cast<int64_t>(order.size());
  const Numbers targets = integers(rows * out, 1);
  Numbers x_taken, targets_taken;
  std::vector<bool> present(in);
  for (int64_t row : order) {
    x_taken.insert(x_taken.end(), &x.dense[row * in], &x.dense[row * in] + in);
    targets_taken.insert(targets_taken.end(), &targets[row * out], &targets[row * out] + out);
    for (int32_t e = x.begin[row]; e < x.begin[row + 1]; ++e) present[x.column[e]] = true;
  }
  const auto outputs = reference::forward(net, taken, x_taken);
  Numbers dy = outputs.back();
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = 2 * (dy[i] - targets_taken[i]);
  const auto grads = reference::backward(net, taken, x_taken, outputs, dy);

  const std::vector<P> targets_p(targets.begin(), targets.end());
  engine::Batch<P> batch;
  batch.rows = taken;
  batch.sparse = x.input(in);
  batch.index = order.data();
  batch.targets = targets_p.data();
  const engine::Loss loss{engine::LossKind::kMse, 0, 0};
  const bool wants_squares = shapes.size() > 1;
  double squares = -1, sum_of_squares = 0;
  for (double w : net.weights[0]) sum_of_squares += w * w;
  engine::sparse_train_step<P>(layers, loss, batch, 1, absent,
                               clips ? std::optional<double>(1e9) : std::nullopt,
                               wants_squares ? &squares : nullptr);
  test::expect(squares == (wants_squares ? sum_of_squares : -1), name + " squares");
  for (size_t l = 0; l < shapes.size(); ++l) {
    bool right = true;
    if (by_columns && l == 0) {
      const Numbers lying(weights[0].begin(), weights[0].end());
      const Numbers by_rows = transposed(lying, in, shapes[0].out);
      weights[0].assign(by_rows.begin(), by_rows.end());
    }
    for (size_t i = 0; i < weights[l].size(); ++i) {
      const bool decays = l == 0 && (absent == engine::AbsentColumns::kExact || present[i % in]);
      const double before = net.weights[l][i];
      const double wanted = before - grads.weights[l][i] - (decays ? decay * before : 0);
      right = right && static_cast<double>(weights[l][i]) == wanted;
    }
    test::expect(right, name + " weight of layer " + std::to_string(l));
    right = true;
    for (size_t i = 0; i < biases[l].size(); ++i)
      right = right && static_cast<double>(biases[l][i]) == net.biases[l][i] - grads.biases[l][i];
    test::expect(right, name + " bias of layer " + std::to_string(l));
  }
}

template <class P>
void check_steps(const std::string& type, bool by_columns) {
  for (auto absent : {engine::AbsentColumns::kExact, engine::AbsentColumns::kLazy}) {
    for (double decay : {0.0, 1.0}) {
      for (bool clips : {false, true}) {
        const std::string name = engine::active_isa() + " sparse training " + type +
                                 " decay=" + std::to_string(decay) + (clips ? " clipped" : "") +
                                 (absent == engine::AbsentColumns::kLazy ? " lazy" : "") +
                                 (by_columns ? " by columns" : "");
        const std::vector<std::vector<LayerShape>> networks{
            {{50, 3, true, false}},
            {{50, 3, true, true}},
            {{2100, 19, true, true}, {19, 4, true, false}},
            {{90, 7, true, false}, {7, 5, true, true}, {5, 2, true, false}}};
        for (const auto& shapes : networks)
          check_step<P>(shapes, shapes[0].in / 35 + 4, decay, absent, clips, by_columns, name);
      }
    }
  }
}

}  // namespace

void test::check_sparse() {
  check_type<float>("float32");
  check_type<double>("float64");
  check_type<engine::BFloat16>("bfloat16");
  check_type<engine::Half>("float16");
  for (bool by_columns : {false, true}) {
    check_steps<float>("float32", by_columns);
    check_steps<double>("float64", by_columns);
  }
}
