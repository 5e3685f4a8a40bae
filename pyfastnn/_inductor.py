"""Tells torch.compile's code generator to call our operators, although they can be decomposed.

The decompositions are for ONNX. Where the environment variable ``CI`` is set, as it is on most
services that run tests, ``torch._inductor.lowering`` refuses to call an operator that has one,
unless the operator is on its list. Importing that module takes a second, so the names are added
when somebody else imports it.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_LOWERING = "torch._inductor.lowering"
_OPERATORS = ("pyfastnn::linear_relu", "pyfastnn::mlp")


def _allow(lowering: ModuleType) -> None:
    lowering.FALLBACK_ALLOW_LIST.update(_OPERATORS)


class _AfterImport(MetaPathFinder):
    """Calls ``_allow`` once the module has been imported by whoever wants it, and goes away."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders have for the module, or None for all others."""
        if name != _LOWERING:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _allow(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if _LOWERING in sys.modules:
    _allow(sys.modules[_LOWERING])
else:
    sys.meta_path.insert(0, _AfterImport())
