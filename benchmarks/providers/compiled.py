"""Stock PyTorch through ``torch.compile`` with its default backend, inductor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.inputs import Arrays
from benchmarks.providers import Workload
from benchmarks.providers.eager import Torch
from benchmarks.shapes import Cell


class TorchCompile(Torch):
    """Model and loss compiled as one function; for inference the model with frozen parameters."""

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Compile in this process: helpers would outlive their work and wait beside the timing."""
        return {"TORCHINDUCTOR_COMPILE_THREADS": "1"}

    def supports(self, cell: Cell) -> bool:
        """Networks."""
        return not cell.is_layer

    def setup(self, threads: int) -> None:
        """Import the compiler too."""
        super().setup(threads)
        import torch._dynamo
        import torch._inductor.compile_fx  # noqa: F401

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import torch

        torch.compiler.reset()  # a second shape in one process would be compiled for any shape
        return super().build(cell, inputs)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile the function that a workload calls in each step."""
        import torch

        return torch.compile(function)
