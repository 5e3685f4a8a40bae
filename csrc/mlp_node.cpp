#include "mlp_node.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <utility>

#include "ops.h"
#include "plain_layers.h"

namespace pyfastnn {

namespace dynamo = torch::dynamo::autograd;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

namespace {

// Gradients of args = [input, weight_1, bias_1, ...], undefined where `needs` is false. `outputs`
// are those of the layers that have a ReLU; if differentiable, the last one of them suffices.
variable_list run_backward(const at::Tensor& grad_output, const variable_list& args,
                           const variable_list& outputs, bool activate_last,
                           const std::vector<bool>& needs, bool differentiable) {
  variable_list grads(needs.size());
  if (!grad_output.defined()) return grads;
  const variable_list weights = weights_of(args);
  if (differentiable) {
    // The hidden layers are computed again, because their own derivatives count here.
    const variable_list inputs = plain_layers(args, depth(args) - 1, activate_last);
    const at::Tensor output = activate_last ? outputs.back() : at::Tensor();
    return plain_backward(grad_output, inputs, weights, output, activate_last, needs);
  }
  c10::List<bool> needs_grad;
  for (bool need : needs) needs_grad.push_back(need);
  auto computed = mlp_backward(grad_output, args[0], weights, outputs, activate_last, needs_grad);
  size_t next = 0;
  for (size_t i = 0; i < grads.size(); ++i) {
    if (needs[i]) grads[i] = std::move(computed[next++]);
  }
  return grads;
}

// The same with the arguments that MlpBackward::apply_with_saved packs.
variable_list packed_backward(const variable_list& incoming, const std::vector<c10::IValue>& args) {
  dynamo::PackedArgs packed(args);
  variable_list unpacked;
  for (const auto& arg : packed.unpack<std::vector<std::optional<at::Tensor>>>())
    unpacked.push_back(arg.value_or(at::Tensor()));
  const auto outputs = packed.unpack<variable_list>();
  const auto activate_last = packed.unpack<bool>();
  const auto needs = packed.unpack<std::vector<bool>>();
  const auto differentiable = packed.unpack<bool>();
  return run_backward(incoming[0], unpacked, outputs, activate_last, needs, differentiable);
}

}  // namespace

void MlpBackward::release_variables() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto* list : {&saved_args, &saved_hidden}) {
    for (SavedVariable& variable : *list) variable.reset_data();
  }
  saved_output.reset_data();
  for (at::Tensor& arg : unread) arg.reset();
}

variable_list MlpBackward::apply(variable_list&& incoming) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!incoming[0].defined()) return variable_list(saved_args.size());
  const bool differentiable = at::GradMode::is_enabled();
  return run_backward(incoming[0], differentiable ? unpack_all() : unpack_read(),
                      unpack_outputs(differentiable), activate_last, needs(), differentiable);
}

void MlpBackward::compiled_args(dynamo::CompiledNodeArgs& args) const {
  args.collect(at::GradMode::is_enabled());
  args.collect(activate_last);
  args.collect(needs());
  args.collect(saved_args, /*is_output=*/false);
  args.collect(saved_hidden, /*is_output=*/false);
  args.collect(saved_output, /*is_output=*/true);
}

variable_list MlpBackward::apply_with_saved(const variable_list& incoming,
                                            dynamo::SwapSavedVariables& saved) {
  saved.before(saved_args);
  saved.before(saved_hidden);
  saved.before(saved_output);
  const bool differentiable = at::GradMode::is_enabled();
  std::vector<std::optional<at::Tensor>> args;
  for (const at::Tensor& arg : unpack_all())
    args.push_back(arg.defined() ? std::optional(arg) : std::nullopt);
  dynamo::PackedArgs packed;
  packed.pack(args);
  packed.pack(unpack_outputs(differentiable));
  packed.pack(activate_last);
  packed.pack(needs());
  packed.pack(differentiable);
  const auto& compiler = dynamo::getPyCompilerInterface();
  static const std::string function =
      compiler->bind_function(saved.get_py_compiler(), "PyfastnnMlpBackward", packed_backward,
                              {at::ListType::ofOptionalTensors(), at::ListType::ofTensors(),
                               at::BoolType::get(), at::ListType::ofBools(), at::BoolType::get()});
  variable_list grads = compiler->call_function(
      saved.get_py_compiler(), "apply_functional", function, incoming, packed.vec(),
      dynamo::IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
          dynamo::get_input_metadata(next_edges())));
  saved.after(saved_args);
  saved.after(saved_hidden);
  saved.after(saved_output);
  return grads;
}

std::vector<bool> MlpBackward::needs() const {
  std::vector<bool> needs;
  for (size_t i = 0; i < saved_args.size(); ++i) needs.push_back(task_should_compute_output(i));
  return needs;
}

variable_list MlpBackward::unpack_all() const {
  variable_list args;
  for (const SavedVariable& arg : saved_args) args.push_back(arg.unpack());
  return args;
}

// What the fused backward reads. As in torch, the others may be changed in place before it, so
// nobody looks at their versions; biases do not even count by their sizes.
variable_list MlpBackward::unpack_read() const {
  variable_list args = unread;
  for (size_t i = 0; i < args.size(); ++i) {
    const bool is_bias = i > 0 && i % 2 == 0;
    if (!is_bias && !args[i].defined()) args[i] = saved_args[i].unpack();
  }
  return args;
}

variable_list MlpBackward::unpack_outputs(bool differentiable) {
  variable_list outputs;
  if (!differentiable) {
    for (const SavedVariable& hidden : saved_hidden) outputs.push_back(hidden.unpack());
  }
  if (activate_last) outputs.push_back(saved_output.unpack(getptr()));
  return outputs;
}

variable_list unread_args(variable_list args) {
  bool before = torch::autograd::compute_requires_grad(args[0]);
  if (torch::autograd::compute_requires_grad(args[1])) args[0].reset();
  for (size_t i = 1; i < args.size(); i += 2) {
    const bool is_read = before;
    before = before || torch::autograd::compute_requires_grad(args[i], args[i + 1]);
    if (is_read) args[i].reset();
    args[i + 1].reset();
  }
  return args;
}

}  // namespace pyfastnn
