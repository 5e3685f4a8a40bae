// Python module pyfastnn._C. The operators register themselves when it is loaded; bound are the
// choice of ISA, the training step, which changes tensors in place and keeps state between calls,
// packed networks, for which the dispatcher would be a third of a small call, and direct calls of
// the operators.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include "cpu/engine/isa.h"
#include "cpu/prepacked.h"
#include "cpu/training.h"
#include "direct_calls.h"
#include "snapshot.h"

namespace py = pybind11;
using pyfastnn::PackedMlp;
using pyfastnn::PlannedParameter;
using pyfastnn::TrainInput;
using pyfastnn::TrainPlan;
using Unlocked = py::call_guard<py::gil_scoped_release>;

namespace {

// The methods that take rows. Of a tensor, it would cost 1 us to make a TrainInput in Python.
template <class X>
void add_training(py::class_<TrainPlan>& plan) {
  plan.def(
          "step",
          [](TrainPlan& plan, const X& x, const at::Tensor& target,
             std::optional<double> max_norm) { return plan.step(x, target, max_norm); },
          Unlocked())
      .def(
          "check",
          [](const TrainPlan& plan, const X& x, const at::Tensor& target, bool allow_bytes) {
            plan.check(x, target, allow_bytes);
          },
          Unlocked())
      .def(
          "run_epoch",
          [](TrainPlan& plan, const X& x, const at::Tensor& target,
             const std::optional<at::Tensor>& order, int64_t batch_size, bool drop_last,
             double scale, double shift, std::optional<double> max_norm) {
            return plan.run_epoch(x, target, order, batch_size, drop_last, scale, shift, max_norm);
          },
          Unlocked())
      .def(
          "fit_epoch",
          [](TrainPlan& plan, const X& x, const at::Tensor& target,
             const std::optional<at::Tensor>& order, const std::optional<at::Tensor>& row_weights,
             int64_t batch_size, double alpha, double loss_factor, double rate) {
            const pyfastnn::FitLoss loss = plan.fit_epoch(x, target, order, row_weights,
                                                          {batch_size, alpha, loss_factor, rate});
            return std::make_pair(loss.loss, loss.penalty);
          },
          Unlocked());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Operators of pyfastnn (registered on import), instruction sets, the training step.";
  m.def("available_isas", &pyfastnn::engine::available_isas,
        "Names of the instruction sets that this processor can run, slowest first.");
  m.def("active_isa", &pyfastnn::engine::active_isa, "Name of the instruction set in use.");
  m.def("set_isa", &pyfastnn::engine::set_isa, py::arg("name"),
        "Use the named instruction set from now on.");
  m.def(
      "torch_version", [] { return TORCH_VERSION; },
      "The torch version this module was compiled against.");
  pyfastnn::add_direct_calls(m.ptr());

  py::class_<pyfastnn::Snapshot>(m, "Snapshot")
      .def(py::init([](const py::list& dicts, const py::list& lists, const py::list& tensors) {
             return pyfastnn::Snapshot(dicts.ptr(), lists.ptr(), tensors.ptr());
           }),
           py::arg("dicts"), py::arg("lists"), py::arg("tensors"))
      .def("holds", &pyfastnn::Snapshot::holds);
  py::class_<PlannedParameter>(m, "PlannedParameter")
      .def(py::init<std::optional<at::Tensor>, int64_t, std::vector<at::Tensor>,
                    std::optional<at::Tensor>, bool>(),
           py::arg("tensor"), py::arg("group"), py::arg("state"), py::arg("step"),
           py::arg("first"));
  py::class_<PackedMlp>(m, "PackedMlp")
      .def("forward", &PackedMlp::forward, Unlocked())
      .def("weights", &PackedMlp::weights, Unlocked())
      .def("biases", &PackedMlp::biases, Unlocked());
  m.def("prepack", &pyfastnn::prepack, py::arg("weights"), py::arg("biases"), py::arg("relu"),
        Unlocked());
  py::class_<TrainInput>(m, "TrainInput")
      .def(py::init<at::Tensor, at::Tensor, at::Tensor, int64_t>(), py::arg("crow"), py::arg("col"),
           py::arg("values"), py::arg("columns"));
  py::class_<TrainPlan> plan(m, "TrainPlan");
  plan.def(py::init<std::vector<PlannedParameter>, std::vector<bool>, std::string, bool, double,
                    int64_t, std::string, bool>(),
           py::arg("parameters"), py::arg("relu"), py::arg("loss"), py::arg("mean"),
           py::arg("label_smoothing"), py::arg("ignore_index"), py::arg("optimizer"),
           py::arg("compute_bfloat16"))
      .def("set_groups", &TrainPlan::set_groups)
      .def("set_lazy", &TrainPlan::set_lazy)
      .def(
          "gradients",
          [](TrainPlan& plan, const at::Tensor& x, const at::Tensor& target,
             const at::Tensor& gradients) {
            const pyfastnn::BatchLoss loss = plan.gradients(x, target, gradients);
            return std::make_pair(loss.sum, loss.count);
          },
          Unlocked())
      .def("apply", &TrainPlan::apply, Unlocked())
      .def("gradient_count", &TrainPlan::gradient_count);
  add_training<at::Tensor>(plan);
  add_training<TrainInput>(plan);
}
