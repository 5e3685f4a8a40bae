// A chain of layers for inference: weights are packed once, not on every call.
#pragma once

#include <memory>
#include <vector>

#include "network.h"

namespace pyfastnn::engine {

// Belongs to the instruction set that was in force when it was made, whose form the panels have.
// Outputs have the bits that forward() gives there. Calls change nothing: threads may share one.
template <class S>
class PackedNetwork {
 public:
  // Copies weights and biases.
  explicit PackedNetwork(const std::vector<Layer<S>>& layers);

  void forward(int64_t rows, Matrix<const S> input, Matrix<S> output) const;

  int64_t depth() const { return static_cast<int64_t>(layers_.size()); }
  // Its weight has no data: see unpack.
  const Layer<S>& layer(int64_t index) const { return layers_[index]; }
  // W of a layer, [out, in], as it was given.
  void unpack(int64_t index, S* weight) const;

 private:
  struct Free {
    void operator()(void* memory) const;
  };

  void* allocate(int64_t bytes);

  const Kernels<S>& kernels_;
  std::vector<Layer<S>> layers_;
  std::vector<std::unique_ptr<void, Free>> memory_;
  std::vector<PackedOperand<S>> packed_;
};

}  // namespace pyfastnn::engine
