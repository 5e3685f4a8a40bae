"""pytest-benchmark suite: a single Linear+ReLU layer, fprop and fprop with backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.shapes import LAYER_MODES, Cell
from benchmarks.stopwatch import stopwatch

MODES = LAYER_MODES


@pytest.mark.benchmark(timer=stopwatch)
def test_layer(cell: Cell, measure: Callable[[Cell], None]) -> None:
    """Check every provider against float64, then time them in turns."""
    measure(cell)
