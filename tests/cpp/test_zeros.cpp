// Zeros that products leave out: the same sums, whatever lies where the zeros are multiplied.
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "cpu/engine/isa.h"
#include "cpu/engine/packed.h"
#include "guarded.h"
#include "test_engine.h"

namespace engine = pyfastnn::engine;
using reference::Numbers;
using test::Guarded;

namespace {

std::mt19937 generator(4);

// Zero but for a part whose place depends on the row and on the column, so that some tiles are all
// zero, some hardly, and the last quarter of the columns altogether.
Numbers with_zeros(int64_t rows, int64_t columns) {
  Numbers x = reference::integers(generator, rows * columns, 1);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      if (i / 20 % 3 != j / 9 % 3 || 4 * j >= 3 * columns) x[i * columns + j] = 0;
      if (i / 20 % 2 == 1 && x[i * columns + j] == 0) x[i * columns + j] = -0.0;
    }
  }
  return x;
}

template <class S>
struct Case {
  const int64_t rows, in, out;
  const bool by_columns;
  reference::Network net;
  const Numbers x, dy;
  Guarded<S> x_s, dy_s, weight, bias;
  std::string name;

  Case(int64_t rows_, int64_t in_, int64_t out_, bool by_columns_, const std::string& type)
      : rows(rows_),
        in(in_),
        out(out_),
        by_columns(by_columns_),
        net{{{in, out, true, true}},
            {reference::integers(generator, in * out, 1)},
            {reference::integers(generator, out, 1)}},
        x(with_zeros(rows, in)),
        dy(reference::integers(generator, rows * out, 1)),
        x_s(rows, in, 3, x),
        dy_s(rows, out, 1, dy),
        weight(by_columns ? in : out, by_columns ? out : in, 2),
        bias(1, out, 0, net.biases[0]),
        name(engine::active_isa() + " " + type + " zeros, " + std::to_string(rows) + " x " +
             std::to_string(in) + "-" + std::to_string(out) + (by_columns ? " by columns" : "")) {
    for (int64_t j = 0; j < out; ++j) {
      for (int64_t p = 0; p < in; ++p) set_weight(j, p, net.weights[0][j * in + p]);
    }
  }

  void set_weight(int64_t j, int64_t p, double value) {
    reference::set(by_columns ? weight.at(p, j) : weight.at(j, p), value);
  }

  std::vector<engine::Layer<S>> layers() {
    const auto layout = by_columns ? engine::Layout::kColumns : engine::Layout::kRows;
    return {{{weight.data(), weight.view().ld, layout}, bias.data(), in, out, true}};
  }
};

template <class S>
void check_exact(Case<S>& c) {
  Guarded<S> y(c.rows, c.out, 0), packed(c.rows, c.out, 0), dx(c.rows, c.in, 0), dw(c.out, c.in, 0),
      db(1, c.out, 0);
  engine::forward<S>(c.layers(), c.rows, c.x_s.view(), {y.mutable_view()});
  const auto wanted = reference::forward(c.net, c.rows, c.x);
  test::expect(y.equals(wanted[0]), c.name + " output");
  engine::PackedNetwork<S>(c.layers()).forward(c.rows, c.x_s.view(), packed.mutable_view());
  test::expect(packed.equals(wanted[0]), c.name + " packed output");
  engine::backward<S>(c.layers(), c.rows, c.x_s.view(), {y.view()}, c.dy_s.view(),
                      {dx.data(), {dw.data()}, {db.data()}});
  const auto grads = reference::backward(c.net, c.rows, c.x, wanted, c.dy);
  test::expect(dw.equals(grads.weights[0]), c.name + " dW");
  test::expect(dx.equals(grads.input), c.name + " dX");
  test::expect(y.guards_are_intact() && dw.guards_are_intact() && dx.guards_are_intact(),
               c.name + " wrote outside");
}

// 0 times infinity is NaN: in column `out` - 1 of every output, and in that row of dW.
template <class S>
void check_not_finite(Case<S>& c, double value) {
  const int64_t unit = c.out - 1;
  c.set_weight(unit, c.in - 1, value);  // meets zeros alone
  Guarded<S> y(c.rows, c.out, 0), packed(c.rows, c.out, 0), dw(c.out, c.in, 0), db(1, c.out, 0);
  engine::forward<S>(c.layers(), c.rows, c.x_s.view(), {y.mutable_view()});
  engine::PackedNetwork<S>(c.layers()).forward(c.rows, c.x_s.view(), packed.mutable_view());
  bool all = true, others = false;
  for (int64_t i = 0; i < c.rows; ++i) {
    all = all && std::isnan(reference::value(y.at(i, unit))) &&
          std::isnan(reference::value(packed.at(i, unit)));
    others = others || std::isnan(reference::value(y.at(i, 0)));
  }
  test::expect(all && !others, c.name + " output of 0 * " + std::to_string(value));
  reference::set(c.dy_s.at(c.rows - 1, unit), value);
  engine::backward<S>(c.layers(), c.rows, c.x_s.view(), {y.view()}, c.dy_s.view(),
                      {nullptr, {dw.data()}, {db.data()}});
  all = true, others = false;
  for (int64_t p = 0; p < c.in; ++p) {
    all = all && !std::isfinite(reference::value(dw.at(unit, p)));
    others = others || !std::isfinite(reference::value(dw.at(0, p)));
  }
  test::expect(all && !others, c.name + " dW of 0 * " + std::to_string(value));
}

template <class S>
void check_type(const std::string& type) {
  const auto& kernels = engine::active_kernels<S>();
  const int64_t panel = kernels.lanes * engine::kPanelVectors;
  for (int64_t rows : {24, 37, 64, 300}) {
    for (bool by_columns : {false, true}) {
      for (int64_t in : {48, 100, 131, 530, 1100}) {
        Case<S> c(rows, in, std::max<int64_t>(64, panel) + 3, by_columns, type);
        check_exact(c);
        for (double value :
             {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
          check_not_finite(c, value);
      }
    }
  }
  // Rows of dZ so far apart, and so many panels of X, that dZ is packed by register tiles.
  Case<S> c(64, 16 * panel + 3, 530, false, type);
  check_exact(c);
}

}  // namespace

void test::check_zeros() {
  check_type<float>("float32");
  check_type<double>("float64");
  check_type<engine::BFloat16>("bfloat16");
  check_type<engine::Half>("float16");
}
