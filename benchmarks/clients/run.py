"""What a client offers to tests and to the stopwatch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class Run(Protocol):
    """One model in training, by the loop of its library.

    Attributes:
        module: what ``pyfastnn.fuse`` was given, or would have been.
    """

    module: nn.Module

    def learn(self, rounds: int) -> list[float]:
        """Train on and return every loss that the library reports, in order."""

    def outputs(self) -> Tensor:
        """What the model says about inputs that are always the same."""

    def save(self, folder: Path) -> None:
        """Write the library's own checkpoint."""

    def load(self, folder: Path) -> None:
        """Read what ``save`` has written, by this run or by another."""


class Client(NamedTuple):
    """A way to train a model.

    Args:
        name: as in tables.
        round: what one round of ``Run.learn`` is.
        make: makes a run, always from the same seed; its argument says whether to fuse the model.
        compared: rounds whose losses the tests compare.
        timed: rounds of one timed sample.
        relu_stays: why some ReLU of it runs by itself even when fused, or nothing.
    """

    name: str
    round: str
    make: Callable[[bool], Run]
    compared: int
    timed: int
    relu_stays: str = ""
