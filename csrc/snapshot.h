// Whether Python objects still hold what they held, without running any Python.
#pragma once

#include <Python.h>

#include <utility>
#include <vector>

namespace pyfastnn {

// The contents, by identity, of dicts and lists; whether tensors require grad, and how many hooks
// they have. All references
// are borrowed: whoever makes one keeps the containers and their contents alive (or an object that
// is made later could be taken for one that is gone).
class Snapshot {
 public:
  // `dicts` and `lists` are lists of those; `tensors` a list of tensors. Raises TypeError.
  Snapshot(PyObject* dicts, PyObject* lists, PyObject* tensors);

  bool holds() const;

 private:
  struct Dict {
    PyObject* dict;
    std::vector<std::pair<PyObject*, PyObject*>> items;
  };
  struct List {
    PyObject* list;
    std::vector<PyObject*> items;
  };
  struct Tensor {
    PyObject* tensor;
    bool requires_grad;
    size_t hooks;
  };

  std::vector<Dict> dicts_;
  std::vector<List> lists_;
  std::vector<Tensor> tensors_;
};

}  // namespace pyfastnn
