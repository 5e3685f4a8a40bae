// The operators as functions of the Python module, for ordinary tensors.
#pragma once

#include <Python.h>

namespace pyfastnn {

// Adds linear_relu(input, weight, bias) and mlp(input, weights, biases, activate_last). They return
// NotImplemented unless every tensor is a torch.Tensor or Parameter itself and no mode for
// __torch_function__ is active: those belong to torch.ops.
void add_direct_calls(PyObject* module);

}  // namespace pyfastnn
