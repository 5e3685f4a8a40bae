"""pyfastnn, measured through the same code as stock PyTorch with its own layer and network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.providers import Workload
from benchmarks.providers.eager import Torch, to_numpy
from benchmarks.shapes import Cell


class Pyfastnn(Torch):
    """``pyfastnn.functional.linear_relu`` and ``pyfastnn.MLP``."""

    def describe(self) -> dict[str, str]:
        """Version and the active ISA."""
        import pyfastnn

        return {"version": pyfastnn.__version__, "isa": pyfastnn.active_isa()}

    def layer(self) -> Callable[[Any, Any, Any], Any]:
        """The fused layer."""
        import pyfastnn.functional

        return pyfastnn.functional.linear_relu

    def network(self, sizes: Sequence[int], dtype: Any) -> Any:
        """The fused network."""
        import pyfastnn

        return pyfastnn.MLP(list(sizes), dtype=dtype)


class PyfastnnStep(Pyfastnn):
    """``pyfastnn.TrainStep``: loss and optimizer in the same call."""

    def supports(self, cell: Cell) -> bool:
        """Training steps only."""
        return cell.mode == "train_step"

    def _train_step(self, cell: Cell, tensors: dict[str, Any]) -> Workload:
        import torch

        import pyfastnn

        # Parameters are float32; bfloat16 is what is computed with.
        model = self._filled_network(replace(cell, dtype="float32"), tensors)
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        train = pyfastnn.TrainStep(
            model,
            torch.nn.CrossEntropyLoss(),
            optimizer,
            compute_dtype=getattr(torch, cell.dtype),
        )
        x, target = tensors["input"], tensors["target"]

        def step() -> Any:
            return train(x, target)

        def results() -> Arrays:
            arrays = {"loss": to_numpy(step())}
            for i, parameter in enumerate(model.parameters()):
                arrays[f"{('weight', 'bias')[i % 2]}.{i // 2}"] = to_numpy(parameter)
            return arrays

        return Workload(step, results)


class PyfastnnPrepack(Pyfastnn):
    """``pyfastnn.prepack`` of the network."""

    def supports(self, cell: Cell) -> bool:
        """Inference of networks only."""
        return cell.mode == "forward"

    def compiled(self, function: Any) -> Any:
        """Pack the weights."""
        import pyfastnn

        return pyfastnn.prepack(function)
