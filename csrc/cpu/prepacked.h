// A network whose weights were packed once, as the Python module sees it.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

namespace pyfastnn {

class PackedMlp {
 public:
  virtual ~PackedMlp() = default;

  // [*, K] -> [*, N]; no autograd. May be called from several threads at once.
  virtual at::Tensor forward(const at::Tensor& input) const = 0;

  // Copies of what was packed, layer by layer.
  virtual std::vector<at::Tensor> weights() const = 0;
  virtual std::vector<std::optional<at::Tensor>> biases() const = 0;
};

// Copies everything: later changes of the tensors have no effect. Panels have the form of the
// instruction set in force, which the network keeps.
std::unique_ptr<PackedMlp> prepack(const std::vector<at::Tensor>& weights,
                                   const std::vector<std::optional<at::Tensor>>& biases,
                                   const std::vector<bool>& relu);

}  // namespace pyfastnn
