"""Who can be measured. To add a library, write a class like `Provider` and list it here.

The class is created twice: by the coordinator, which only asks for `environment`, and inside the
worker process, which does everything else. So import the library in the methods, not at the top.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.inputs import Arrays
from benchmarks.shapes import Cell

PROVIDERS = {
    "pyfastnn": "benchmarks.providers.fused:Pyfastnn",
    "torch": "benchmarks.providers.eager:Torch",
    "torch_avx512": "benchmarks.providers.eager:TorchAvx512",
    "pyfastnn_step": "benchmarks.providers.fused:PyfastnnStep",
}
DEFAULT_PROVIDERS = ("pyfastnn", "torch", "torch_avx512")


@dataclass(frozen=True)
class Workload:
    """One cell, ready to run.

    Args:
        step: does the timed work once; nothing lazy may be left when it returns.
        results: the numbers of the latest `step`, under the names `reference.check` lists.
    """

    step: Callable[[], object]
    results: Callable[[], Arrays]


class Provider(Protocol):
    """A library under measurement."""

    def environment(self, build_dir: Path) -> dict[str, str]:
        """Environment variables its worker process needs; may build files in `build_dir`."""

    def setup(self, threads: int) -> None:
        """Import the library and limit it to `threads` threads."""

    def describe(self) -> dict[str, str]:
        """``version`` and ``isa``, as they appear in the results, and anything worth printing."""

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
