#include "snapshot.h"

#include <c10/util/Exception.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/variable.h>

namespace pyfastnn {
namespace {

void expect(bool right, const char* what, PyObject* got) {
  TORCH_CHECK_TYPE(right, "Snapshot: expected ", what, ", got ", Py_TYPE(got)->tp_name);
}

template <class Body>
void for_each_item(PyObject* list, const Body& body) {
  expect(PyList_Check(list), "a list", list);
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) body(PyList_GET_ITEM(list, i));
}

size_t hooks_of(const at::Tensor& tensor) {
  const auto* meta = torch::autograd::impl::get_autograd_meta(tensor);
  if (meta == nullptr) return 0;
  return meta->hooks_.size() + (meta->post_acc_grad_hooks_ != nullptr);
}

}  // namespace

Snapshot::Snapshot(PyObject* dicts, PyObject* lists, PyObject* tensors) {
  for_each_item(dicts, [&](PyObject* dict) {
    expect(PyDict_Check(dict), "a dict", dict);
    Dict seen{dict, {}};
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);)
      seen.items.emplace_back(key, value);
    dicts_.push_back(std::move(seen));
  });
  for_each_item(lists, [&](PyObject* list) {
    List seen{list, {}};
    for_each_item(list, [&](PyObject* item) { seen.items.push_back(item); });
    lists_.push_back(std::move(seen));
  });
  for_each_item(tensors, [&](PyObject* tensor) {
    expect(THPVariable_Check(tensor), "a tensor", tensor);
    const at::Tensor& unpacked = THPVariable_Unpack(tensor);
    tensors_.push_back({tensor, unpacked.requires_grad(), hooks_of(unpacked)});
  });
}

bool Snapshot::holds() const {
  for (const auto& [dict, items] : dicts_) {
    if (PyDict_GET_SIZE(dict) != static_cast<Py_ssize_t>(items.size())) return false;
    PyObject *key, *value;
    size_t i = 0;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value); ++i) {
      if (items[i] != std::pair{key, value}) return false;
    }
  }
  for (const auto& [list, items] : lists_) {
    if (PyList_GET_SIZE(list) != static_cast<Py_ssize_t>(items.size())) return false;
    for (size_t i = 0; i < items.size(); ++i) {
      if (PyList_GET_ITEM(list, i) != items[i]) return false;
    }
  }
  for (const auto& [tensor, requires_grad, hooks] : tensors_) {
    const at::Tensor& unpacked = THPVariable_Unpack(tensor);
    if (unpacked.requires_grad() != requires_grad || hooks_of(unpacked) != hooks) return false;
  }
  return true;
}

}  // namespace pyfastnn
