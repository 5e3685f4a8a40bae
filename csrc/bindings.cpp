// Python module pyfastnn._C. The operators register themselves when it is loaded; only the choice
// of ISA is bound.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include "cpu/engine/isa.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Operators of pyfastnn (registered on import) and the choice of instruction set.";
  m.def("available_isas", &pyfastnn::engine::available_isas,
        "Names of the instruction sets that this processor can run, slowest first.");
  m.def("active_isa", &pyfastnn::engine::active_isa, "Name of the instruction set in use.");
  m.def("set_isa", &pyfastnn::engine::set_isa, py::arg("name"),
        "Use the named instruction set from now on.");
  m.def(
      "torch_version", [] { return TORCH_VERSION; },
      "The torch version this module was compiled against.");
}
