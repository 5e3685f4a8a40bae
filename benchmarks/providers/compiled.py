"""Stock PyTorch through ``torch.compile`` with its default backend, inductor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.providers import Workload
from benchmarks.providers.eager import TorchAvx512
from benchmarks.shapes import Cell


class TorchCompile(TorchAvx512):
    """Model and loss compiled as one function, and for inference the model, its parameters frozen.

    The strongest form: with the BLAS of `TorchAvx512`, which inductor calls for most products.
    """

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Freeze parameters where no gradient is asked for: they may be packed once."""
        compiler = {
            "TORCHINDUCTOR_FREEZING": "1",
            # Helper processes would outlive their work and wait beside what is timed.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        return super().environment(build_dir, threads) | compiler

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

    def optimizer(self, parameters: Iterable[Any]) -> Any:
        """One fused call for all parameters: faster than ``torch.compile`` of the optimizer."""
        import torch

        return torch.optim.SGD(parameters, lr=LEARNING_RATE, fused=True)
