// A call through torch.ops goes by way of boxed values and the schema: 0.8 us of the 1.5 us that a
// small layer takes. These functions take their arguments straight from Python and call the
// dispatcher, so that autograd, autocast, functorch, fake tensors and the others still have their
// say.
#include "direct_calls.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include "ops.h"

namespace pyfastnn {
namespace {

bool is_plain(PyObject* object) { return THPVariable_CheckTypeExact(Py_TYPE(object)); }

bool has_sparse_layout(PyObject* tensor) {
  const at::Layout layout = THPVariable_Unpack(tensor).layout();
  return layout != at::kStrided && layout != at::kMkldnn && layout != at::kJagged;
}

bool is_plain_or_none(PyObject* object) { return object == Py_None || is_plain(object); }

std::optional<at::Tensor> optional_tensor(PyObject* object) {
  if (object == Py_None) return std::nullopt;
  return THPVariable_Unpack(object);
}

bool modes_are_off() { return !at::impl::torch_function_mode_enabled(); }

// Lets other Python threads run, unless the call is over sooner than the lock changes hands (0.1
// us, and the next one may have to wait for it). A device may keep its caller waiting.
class Unlocked {
 public:
  Unlocked(const at::Tensor& input, const at::Tensor& weight) {
    constexpr int64_t kSmall = 1 << 18;  // 32 rows of 16 features and 16 outputs
    if (!input.is_cpu() || input.numel() * weight.numel() >= kSmall) released_.emplace();
  }

 private:
  std::optional<pybind11::gil_scoped_release> released_;
};

PyObject* not_implemented() { return Py_NewRef(Py_NotImplemented); }

PyObject* linear_relu_direct(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 3 || !modes_are_off() || !is_plain(args[0]) || !is_plain(args[1]) ||
      !is_plain_or_none(args[2]) || has_sparse_layout(args[0])) {
    return not_implemented();
  }
  const at::Tensor& input = THPVariable_Unpack(args[0]);
  const at::Tensor& weight = THPVariable_Unpack(args[1]);
  const std::optional<at::Tensor> bias = optional_tensor(args[2]);
  at::Tensor output;
  {
    const Unlocked unlocked(input, weight);
    output = linear_relu(input, weight, bias);
  }
  return THPVariable_Wrap(std::move(output));
  END_HANDLE_TH_ERRORS
}

PyObject* mlp_direct(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 4 || !modes_are_off() || !is_plain(args[0]) || !PyList_CheckExact(args[1]) ||
      !PyList_CheckExact(args[2]) || !PyBool_Check(args[3]) || has_sparse_layout(args[0])) {
    return not_implemented();
  }
  const at::Tensor& input = THPVariable_Unpack(args[0]);
  std::vector<at::Tensor> weights;
  OptionalTensors biases;
  weights.reserve(PyList_GET_SIZE(args[1]));
  biases.reserve(PyList_GET_SIZE(args[2]));
  for (Py_ssize_t l = 0; l < PyList_GET_SIZE(args[1]); ++l) {
    PyObject* weight = PyList_GET_ITEM(args[1], l);
    if (!is_plain(weight)) return not_implemented();
    weights.push_back(THPVariable_Unpack(weight));
  }
  for (Py_ssize_t l = 0; l < PyList_GET_SIZE(args[2]); ++l) {
    PyObject* bias = PyList_GET_ITEM(args[2], l);
    if (!is_plain_or_none(bias)) return not_implemented();
    biases.push_back(optional_tensor(bias));
  }
  at::Tensor output;
  {
    const Unlocked unlocked(input, weights.empty() ? input : weights[0]);
    output = mlp(input, weights, biases, args[3] == Py_True);
  }
  return THPVariable_Wrap(std::move(output));
  END_HANDLE_TH_ERRORS
}

PyObject* is_sparse(PyObject* /*module*/, PyObject* object) {
  return PyBool_FromLong(THPVariable_Check(object) && has_sparse_layout(object));
}

template <PyObject* (*Function)(PyObject*, PyObject* const*, Py_ssize_t)>
PyCFunction as_fastcall() {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Function));
}

PyMethodDef methods[] = {
    {"linear_relu", as_fastcall<linear_relu_direct>(), METH_FASTCALL, nullptr},
    {"mlp", as_fastcall<mlp_direct>(), METH_FASTCALL, nullptr},
    {"is_sparse", is_sparse, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void add_direct_calls(PyObject* module) {
  if (PyModule_AddFunctions(module, methods) != 0) throw python_error();
}

}  // namespace pyfastnn
