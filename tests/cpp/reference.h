// What is right: the formulas of forward and backward as plain loops in double, and storage types
// as numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/engine/kernels.h"

namespace reference {

using pyfastnn::engine::BFloat16;
using pyfastnn::engine::Half;

inline double value(float x) { return x; }
inline double value(double x) { return x; }
inline double value(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}
inline double value(Half x) {
  _Float16 h;
  std::memcpy(&h, &x.bits, sizeof(h));
  return static_cast<double>(h);
}

// For numbers that S holds exactly.
inline void set(float& to, double x) { to = static_cast<float>(x); }
inline void set(double& to, double x) { to = x; }
inline void set(BFloat16& to, double x) {
  const float f = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof(bits));
  to.bits = static_cast<uint16_t>(bits >> 16);
}
inline void set(Half& to, double x) {
  const _Float16 h = static_cast<_Float16>(x);
  std::memcpy(&to.bits, &h, sizeof(h));
}

using Numbers = std::vector<double>;

// Small integers, whose sums and products are exact.
inline Numbers integers(std::mt19937& generator, int64_t count, int limit) {
  std::uniform_int_distribution<int> distribution(-limit, limit);
  Numbers numbers(count);
  for (double& x : numbers) x = distribution(generator);
  return numbers;
}

// C[m, n] = A[m, k] B[k, n]; a(i, p) and b(p, j) give the elements.
template <class A, class B>
Numbers product(int64_t m, int64_t n, int64_t k, const A& a, const B& b) {
  Numbers c(m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t p = 0; p < k; ++p) c[i * n + j] += a(i, p) * b(p, j);
    }
  }
  return c;
}

struct LayerShape {
  int64_t in, out;
  bool bias, relu;
};

struct Network {
  std::vector<LayerShape> shapes;
  std::vector<Numbers> weights, biases;
};

// Outputs of every layer.
inline std::vector<Numbers> forward(const Network& net, int64_t rows, const Numbers& x) {
  std::vector<Numbers> outputs;
  Numbers h = x;
  for (size_t l = 0; l < net.shapes.size(); ++l) {
    const auto [in, out, bias, relu] = net.shapes[l];
    const Numbers& w = net.weights[l];
    h = product(
        rows, out, in, [&, in = in](int64_t i, int64_t p) { return h[i * in + p]; },
        [&, in = in](int64_t p, int64_t j) { return w[j * in + p]; });
    for (int64_t i = 0; i < rows * out; ++i) {
      if (bias) h[i] += net.biases[l][i % out];
      if (relu && h[i] <= 0) h[i] = 0;
    }
    outputs.push_back(h);
  }
  return outputs;
}

struct Gradients {
  Numbers input;
  std::vector<Numbers> weights, biases;
};

inline Gradients backward(const Network& net, int64_t rows, const Numbers& x,
                          const std::vector<Numbers>& outputs, const Numbers& grad_output) {
  Gradients g;
  g.weights.resize(net.shapes.size());
  g.biases.resize(net.shapes.size());
  Numbers dz = grad_output;
  for (size_t l = net.shapes.size(); l-- > 0;) {
    const auto [in, out, bias, relu] = net.shapes[l];
    const Numbers& h = l == 0 ? x : outputs[l - 1];
    for (int64_t i = 0; i < rows * out; ++i) {
      if (relu && outputs[l][i] <= 0) dz[i] = 0;
    }
    const auto dz_at = [&, out = out](int64_t i, int64_t j) { return dz[i * out + j]; };
    g.weights[l] = product(
        out, in, rows, [&](int64_t j, int64_t p) { return dz_at(p, j); },
        [&, in = in](int64_t p, int64_t q) { return h[p * in + q]; });
    g.biases[l] = product(
        out, 1, rows, [&](int64_t j, int64_t p) { return dz_at(p, j); },
        [](int64_t, int64_t) { return 1.0; });
    dz = product(rows, in, out, dz_at,
                 [&, in = in](int64_t p, int64_t q) { return net.weights[l][p * in + q]; });
  }
  g.input = dz;
  return g;
}

}  // namespace reference
