#include "packed.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "schedule.h"

namespace pyfastnn::engine {

template <class S>
void PackedNetwork<S>::Free::operator()(void* memory) const {
  std::free(memory);
}

template <class S>
void* PackedNetwork<S>::allocate(int64_t bytes) {
  constexpr size_t kCacheLine = 64;
  const size_t size = (static_cast<size_t>(bytes) / kCacheLine + 1) * kCacheLine;
  memory_.emplace_back(std::aligned_alloc(kCacheLine, size));
  if (memory_.back() == nullptr) throw std::bad_alloc();
  return memory_.back().get();
}

template <class S>
PackedNetwork<S>::PackedNetwork(const std::vector<Layer<S>>& layers)
    : kernels_(active_kernels<S>()), layers_(layers) {
  packed_ = pack_operands(kernels_, fprop_jobs<S>(layers),
                          [this](int64_t bytes) { return allocate(bytes); });
  for (Layer<S>& layer : layers_) {
    layer.weight.is_finite = is_finite(kernels_, layer.weight, {0, layer.out}, {0, layer.in});
    layer.weight.data = nullptr;
    if (layer.bias == nullptr) continue;
    const int64_t bytes = layer.out * static_cast<int64_t>(sizeof(S));
    S* bias = static_cast<S*>(allocate(bytes));
    std::memcpy(bias, layer.bias, bytes);
    layer.bias = bias;
  }
}

template <class S>
void PackedNetwork<S>::forward(int64_t rows, Matrix<const S> input, Matrix<S> output) const {
  std::vector<Matrix<S>> outputs(layers_.size());
  outputs.back() = output;
  engine::forward(kernels_, layers_, packed_, rows, input, outputs);
}

template <class S>
void PackedNetwork<S>::unpack(int64_t index, S* weight) const {
  const Layer<S>& layer = layers_[index];
  const int64_t width = panel_width(kernels_), per_unit = kernels_.k_per_unit;
  std::vector<Accumulator<S>> sums(layer.in);
  for (int64_t j = 0; j < layer.out; ++j) {
    const char* panel =
        static_cast<const char*>(packed_[index].data) + j / width * packed_[index].panel_bytes;
    // Units of column j lie `width` units apart; a unit holds its elements one after the other.
    const auto element = [&](int64_t p) {
      return (p / per_unit * width + j % width) * per_unit + p % per_unit;
    };
    S* row = weight + j * layer.in;
    if (kernels_.same_bits) {
      for (int64_t p = 0; p < layer.in; ++p) row[p] = reinterpret_cast<const S*>(panel)[element(p)];
    } else {
      for (int64_t p = 0; p < layer.in; ++p)
        sums[p] = reinterpret_cast<const Accumulator<S>*>(panel)[element(p)];
      kernels_.round(sums.data(), layer.in, row);
    }
  }
}

template class PackedNetwork<float>;
template class PackedNetwork<double>;
template class PackedNetwork<BFloat16>;
template class PackedNetwork<Half>;

}  // namespace pyfastnn::engine
