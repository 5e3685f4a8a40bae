"""pytest-benchmark suite: whole networks, forward and one training step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.shapes import NET_MODES, Cell
from benchmarks.stopwatch import stopwatch

MODES = NET_MODES


@pytest.mark.benchmark(timer=stopwatch)
def test_network(cell: Cell, measure: Callable[[Cell], None]) -> None:
    """Check every provider against float64, then time them in turns."""
    measure(cell)
