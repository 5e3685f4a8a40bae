"""What the cores and the memory can do at best, measured by small C++ programs in the same run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import compile_here, last_level_cache_bytes
from benchmarks.shapes import Cell

FLAGS = ("-O3", "-march=native", "-std=c++20", "-pthread")
CACHES_OF_MEMORY = 8  # arrays of this many last-level caches: nothing is found there again
LEAST_MEMORY = 2**28


@dataclass(frozen=True)
class Limits:
    """Limits of some cores together.

    Args:
        peaks: for each dtype the fastest ISA and its GFLOP/s.
        bandwidths: GB/s of memory, ``read`` and ``update`` (read, then written in place).
        cache_bytes: size of the last-level cache, 0 if unknown.
    """

    peaks: dict[str, tuple[str, float]]
    bandwidths: dict[str, float]
    cache_bytes: int

    def roofline_seconds(self, cell: Cell) -> float | None:
        """The least time of a step whose parameters no cache can hold; None for smaller ones.

        The longer of the arithmetic and of the memory traffic, as if both overlapped perfectly.
        """
        read, updated = cell.compulsory_bytes
        if not 0 < self.cache_bytes < cell.parameter_bytes or not read:
            return None
        traffic = read / self.bandwidths["read"] + updated / self.bandwidths["update"]
        return max(cell.flops / self.peaks[cell.dtype][1], traffic) / 1e9


def measure_limits(threads: int, cores: list[int], build_dir: Path) -> Limits:
    """Measure the FMA peak and the memory bandwidth on `cores`.

    bfloat16 without a dot-product instruction is computed in float32 and has float32's peak then.
    """
    cache = last_level_cache_bytes(cores[0])
    peaks: dict[str, tuple[str, float]] = {}
    for dtype, isa, gflops in _lines("fma_peak", build_dir, cores, threads):
        if float(gflops) > peaks.get(dtype, ("", 0.0))[1]:
            peaks[dtype] = (isa, float(gflops))
    size = max(CACHES_OF_MEMORY * cache, LEAST_MEMORY)
    lines = _lines("memory_bandwidth", build_dir, cores, threads, size)
    bandwidths = {kind: float(rate) for kind, rate in lines}
    return Limits({"bfloat16": peaks["float32"]} | peaks, bandwidths, cache)


def _lines(name: str, build_dir: Path, cores: list[int], *arguments: int) -> list[list[str]]:
    """Build the program `name` once, run it on `cores` and split what it prints."""
    program = build_dir / name
    if not program.exists():
        compile_here(f"{name}.cpp", program, *FLAGS)
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return [line.split() for line in done.stdout.splitlines()]
