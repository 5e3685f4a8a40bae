"""What the libraries of .venv-peers have in common; the files beside this one hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.inputs import Arrays
from benchmarks.providers import Provider
from benchmarks.shapes import NET_MODES, Cell

PEERS_PYTHON = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"


class Peer(Provider):
    """A library without torch: it runs in .venv-peers and takes float32 networks only."""

    modes = NET_MODES

    def interpreter(self) -> Path:
        """The Python of the environment that ``make bench-peers`` makes."""
        return PEERS_PYTHON

    def supports(self, cell: Cell) -> bool:
        """Networks in float32, in the modes of the class."""
        return cell.mode in self.modes and cell.dtype == "float32"


def parameters(cell: Cell, inputs: Arrays) -> list[tuple[Any, Any]]:
    """Weight [K, N] and bias [N] of each layer: the layout of ``x @ w + b``, in own memory."""
    return [
        (inputs[f"weight.{i}"].T.copy(), inputs[f"bias.{i}"].copy())
        for i in range(len(cell.sizes) - 1)
    ]


def trained(loss: Any, layers: list[tuple[Any, Any]]) -> Arrays:
    """Results of a training step: its loss and the new weight [K, N] and bias [N] of each layer."""
    import numpy as np

    results = {"loss": np.asarray(loss)}
    for i, (weight, bias) in enumerate(layers):
        results[f"weight.{i}"] = np.array(weight).T.copy()
        results[f"bias.{i}"] = np.array(bias)
    return results
