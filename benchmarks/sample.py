"""What one timed sample is, and how Linux tells whether it was disturbed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

QUIET = 0.03  # a sample is undisturbed if its threads waited less than this share of its time


@dataclass(frozen=True)
class Sample:
    """One timed sample.

    Args:
        seconds: per step.
        waited: share of the time that threads of this process were ready to run but had no core,
            because something else used it; 0 on a quiet machine, may exceed 1 with many threads.
    """

    seconds: float
    waited: float


def waited_seconds() -> float:
    """Time the threads of this process have spent waiting for a core so far, as Linux counts it."""
    files = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9
