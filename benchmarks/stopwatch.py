"""The clock of the pytest-benchmark suites: seconds measured in another process, added up."""

from __future__ import annotations

_elapsed = 0.0


def advance(seconds: float) -> None:
    """Let the clock pass the seconds per step of one round."""
    global _elapsed
    _elapsed += seconds


def stopwatch() -> float:
    """Seconds that have passed on this clock; a timer for pytest-benchmark."""
    return _elapsed
