"""Who can be measured. To add a library, write a subclass of `Provider` and list it here.

The class is created twice: by the coordinator, which asks how to start the worker process and what
it can do, and inside that process, which does the rest. So import the library in `setup`,
`describe` and `build` only, not at the top.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inputs import Arrays
from benchmarks.shapes import Cell

PROVIDERS = {
    "pyfastnn": "benchmarks.providers.fused:Pyfastnn",
    "torch": "benchmarks.providers.eager:Torch",
    "torch_avx512": "benchmarks.providers.eager:TorchAvx512",
    "pyfastnn_step": "benchmarks.providers.fused:PyfastnnStep",
    "pyfastnn_prepack": "benchmarks.providers.fused:PyfastnnPrepack",
    "torch_compile": "benchmarks.providers.compiled:TorchCompile",
    "jax": "benchmarks.providers.compilers:Jax",
    "tensorflow": "benchmarks.providers.compilers:TensorFlow",
    "tensorflow_xla": "benchmarks.providers.compilers:TensorFlowXla",
    "sklearn": "benchmarks.providers.arrays:ScikitLearn",
    "numpy": "benchmarks.providers.arrays:Numpy",
    "onnxruntime": "benchmarks.providers.runtimes:OnnxRuntime",
    "openvino": "benchmarks.providers.runtimes:OpenVino",
}
DEFAULT_PROVIDERS = ("pyfastnn", "torch", "torch_avx512")
# ``--providers peers``. The first that supports a cell is what the cell's ratios are about.
PEERS = (
    "pyfastnn_step",
    "pyfastnn_prepack",
    "pyfastnn",
    "torch",
    "torch_avx512",
    "torch_compile",
    "jax",
    "tensorflow",
    "tensorflow_xla",
    "sklearn",
    "numpy",
    "onnxruntime",
    "openvino",
)


def is_ours(provider: str) -> bool:
    """Whether a provider is a form of pyfastnn and not one of its peers."""
    return provider.startswith("pyfastnn")


@dataclass(frozen=True)
class Workload:
    """One cell, ready to run.

    Args:
        step: does the timed work once; nothing lazy may be left when it returns.
        results: the numbers of the latest `step`, under the names `reference.check` lists.
    """

    step: Callable[[], object]
    results: Callable[[], Arrays]


class Provider(ABC):
    """A library under measurement."""

    def interpreter(self) -> Path:
        """The Python that its worker runs with: this one, or that of another environment."""
        return Path(sys.executable)

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Environment variables its worker needs for `threads` threads; may build files."""
        return {}

    def supports(self, cell: Cell) -> bool:
        """Whether it can do the work of a cell; where it cannot, the cell has no row for it."""
        return True

    @abstractmethod
    def setup(self, threads: int) -> None:
        """Import the library and limit it to `threads` threads."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """``version`` and ``isa``, as they appear in the results, and anything worth printing."""

    @abstractmethod
    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """Turn the arrays of a cell into the library's own and return the work on them."""


def find_provider(name: str) -> Provider:
    """Create the provider called `name` in `PROVIDERS`, or the class at ``module:Class``.

    Raises:
        ValueError: if there is no such provider.
    """
    path = PROVIDERS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        raise ValueError(f"provider: expected one of {', '.join(PROVIDERS)}, got {name!r}")
    return getattr(importlib.import_module(module), attribute)()
