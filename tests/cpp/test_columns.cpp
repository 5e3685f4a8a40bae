// Weights that lie by columns, as [in, out], give the bits of weights that lie by rows.
#include <random>
#include <string>

#include "cpu/engine/isa.h"
#include "cpu/engine/network.h"
#include "cpu/engine/packed.h"
#include "guarded.h"
#include "test_engine.h"

namespace engine = pyfastnn::engine;
using test::Guarded;

namespace {

std::mt19937 generator(5);

template <class S>
void fill(Guarded<S>& matrix, int64_t rows, int64_t columns) {
  std::normal_distribution<float> distribution;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) reference::set(matrix.at(i, j), distribution(generator));
  }
}

template <class S>
bool same(Guarded<S>& a, Guarded<S>& b, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    if (std::memcmp(&a.at(i, 0), &b.at(i, 0), columns * sizeof(S)) != 0) return false;
  }
  return true;
}

template <class S>
void check(int64_t rows, int64_t in, int64_t out, const std::string& type) {
  const std::string name = engine::active_isa() + " " + type + " by columns, " +
                           std::to_string(rows) + " x " + std::to_string(in) + "-" +
                           std::to_string(out);
  Guarded<S> x(rows, in, 1), weight(out, in, 0), turned(in, out, 3), bias(1, out, 0),
      dy(rows, out, 0);
  fill(x, rows, in);
  fill(weight, out, in);
  fill(bias, 1, out);
  fill(dy, rows, out);
  for (int64_t j = 0; j < out; ++j) {
    for (int64_t p = 0; p < in; ++p) turned.at(p, j) = weight.at(j, p);
  }
  struct Results {
    Guarded<S> y, packed, dx, dw, db;
  };
  const auto run = [&](Guarded<S>& w, engine::Layout layout) {
    Results r{{rows, out, 0}, {rows, out, 0}, {rows, in, 0}, {out, in, 0}, {1, out, 0}};
    const std::vector<engine::Layer<S>> layers{
        {{w.data(), w.view().ld, layout}, bias.data(), in, out, true}};
    engine::forward<S>(layers, rows, x.view(), {r.y.mutable_view()});
    engine::PackedNetwork<S>(layers).forward(rows, x.view(), r.packed.mutable_view());
    engine::backward<S>(layers, rows, x.view(), {r.y.view()}, dy.view(),
                        {r.dx.data(), {r.dw.data()}, {r.db.data()}});
    return r;
  };
  Results wanted = run(weight, engine::Layout::kRows), got = run(turned, engine::Layout::kColumns);
  test::expect(same(got.y, wanted.y, rows, out), name + " output");
  test::expect(same(got.packed, wanted.y, rows, out), name + " packed output");
  test::expect(same(got.dx, wanted.dx, rows, in), name + " dX");
  test::expect(same(got.dw, wanted.dw, out, in), name + " dW");
}

template <class S>
void check_type(const std::string& type) {
  for (int64_t rows : {1, 2, 3, 7, 13, 48, 49, 200}) {
    for (const auto& [in, out] : {std::pair(300, 40), {1030, 73}, {64, 130}, {20, 5}, {256, 128}})
      check<S>(rows, in, out, type);
  }
}

}  // namespace

void test::check_columns() {
  check_type<float>("float32");
  check_type<double>("float64");
  check_type<engine::BFloat16>("bfloat16");
  check_type<engine::Half>("float16");
}
