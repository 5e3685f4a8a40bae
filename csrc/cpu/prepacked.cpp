// PackedMlp on the CPU: what it expects, and tensors to pointers.
#include "prepacked.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "../ops.h"
#include "engine/packed.h"
#include "tensors.h"

namespace pyfastnn {
namespace {

constexpr const char* kName = "prepack: ";

template <class S>
engine::PackedNetwork<S> pack(const std::vector<at::Tensor>& weights,
                              const std::vector<std::optional<at::Tensor>>& biases,
                              const std::vector<bool>& relu) {
  std::vector<at::Tensor> kept;
  std::vector<engine::Layer<S>> layers;
  for (size_t l = 0; l < weights.size(); ++l) {
    kept.push_back(with_plain_lines(weights[l].detach()));
    const engine::Operand<S> weight = weight_operand<S>(kept.back());
    static const S no_elements{};  // a bias without elements is still a bias
    const S* bias = nullptr;
    if (biases[l].has_value()) {
      kept.push_back(biases[l]->detach().resolve_neg().contiguous());
      bias = kept.back().numel() == 0 ? &no_elements : const_data<S>(kept.back());
    }
    layers.push_back({weight, bias, weights[l].size(1), weights[l].size(0), relu.at(l)});
  }
  return engine::PackedNetwork<S>(layers);
}

template <class S>
class PackedMlpOf final : public PackedMlp {
 public:
  PackedMlpOf(at::TensorOptions options, engine::PackedNetwork<S> network)
      : options_(options), network_(std::move(network)) {}

  at::Tensor forward(const at::Tensor& input) const override {
    check(input);
    const at::Tensor x = with_plain_rows(input);
    auto sizes = input.sizes().vec();
    sizes.back() = network_.layer(network_.depth() - 1).out;
    // Without the dispatcher, as everything here (0.2 us).
    const at::Tensor output = at::detail::empty_cpu(sizes, options_);
    network_.forward(row_count(input), matrix<S>(x), {data<S>(output), output.size(-1)});
    return output;
  }

  std::vector<at::Tensor> weights() const override {
    std::vector<at::Tensor> result;
    for (int64_t l = 0; l < network_.depth(); ++l) {
      result.push_back(
          at::detail::empty_cpu({network_.layer(l).out, network_.layer(l).in}, options_));
      network_.unpack(l, data<S>(result.back()));
    }
    return result;
  }

  std::vector<std::optional<at::Tensor>> biases() const override {
    std::vector<std::optional<at::Tensor>> result(network_.depth());
    for (int64_t l = 0; l < network_.depth(); ++l) {
      const engine::Layer<S>& layer = network_.layer(l);
      if (layer.bias == nullptr) continue;
      result[l] = at::detail::empty_cpu({layer.out}, options_);
      std::copy_n(layer.bias, layer.out, data<S>(*result[l]));
    }
    return result;
  }

 private:
  void check(const at::Tensor& input) const {
    const int64_t in = network_.layer(0).in;
    TORCH_CHECK(is_plain(input), kName,
                "expected input to be a dense tensor on the CPU, no subclass and not inside a "
                "transform, got ",
                input.toString());
    TORCH_CHECK(input.scalar_type() == options_.dtype().toScalarType(), kName,
                "expected input of dtype ", options_.dtype(), " like the packed weights, got ",
                input.scalar_type());
    TORCH_CHECK(input.dim() >= 1 && input.size(-1) == in, kName, "expected input of shape [*, ", in,
                "], got ", input.sizes());
    TORCH_CHECK(!(input.requires_grad() && at::GradMode::is_enabled()), kName,
                "expected input not to require grad: a packed network has no gradients; call it "
                "under torch.no_grad(), or call the model it was made from");
    TORCH_CHECK(!input._fw_grad(/*level=*/0).defined(), kName,
                "expected input without a forward-mode tangent: a packed network has no gradients");
    TORCH_CHECK(!is_watched(), kName,
                "a packed network cannot be traced, nor run under a dispatch mode; do that with "
                "the model it was made from");
  }

  const at::TensorOptions options_;
  const engine::PackedNetwork<S> network_;
};

}  // namespace

std::unique_ptr<PackedMlp> prepack(const std::vector<at::Tensor>& weights,
                                   const std::vector<std::optional<at::Tensor>>& biases,
                                   const std::vector<bool>& relu) {
  OptionalTensors all_biases;
  for (const auto& bias : biases) all_biases.push_back(bias);
  for (size_t l = 0; l < weights.size(); ++l) {
    for (const at::Tensor& tensor : {weights[l], biases.at(l).value_or(weights[l])}) {
      TORCH_CHECK(is_plain(tensor), kName, "expected dense parameters on the CPU, got ",
                  tensor.toString());
    }
  }
  const at::TensorOptions options = weights.at(0).options().requires_grad(false);
  check_mlp(at::detail::empty_cpu({0, weights[0].size(-1)}, options), weights, all_biases);
  std::unique_ptr<PackedMlp> result;
  dispatch(weights[0].scalar_type(), [&](auto tag) {
    using S = decltype(tag);
    result = std::make_unique<PackedMlpOf<S>>(options, pack<S>(weights, biases, relu));
  });
  return result;
}

}  // namespace pyfastnn
