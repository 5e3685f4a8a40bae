"""The CSV of results: its columns, the arithmetic that fills them, reading and writing.

Long format, one row for each cell and provider, plus one row per measured limit of the machine (FMA
peak, memory bandwidth). Everything that is printed or drawn is read back from this file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.limits import Limits
from benchmarks.sample import Sample
from benchmarks.shapes import Cell

COLUMNS = {
    "time": str,  # start of the run, UTC
    "commit": str,
    "cpu": str,
    "provider": str,  # who was measured; `peak` for the FMA peak, `bandwidth` for the memory's
    "version": str,
    "isa": str,  # of bandwidth: read, or update (read and written in place)
    "subject": str,  # the provider that `speedup` is about
    "mode": str,
    "net": str,  # name of the network, or K-N of the layer
    "M": int,
    "K": int,  # of layers only
    "N": int,  # of layers only
    "dtype": str,
    "threads": int,
    "rounds": int,
    "waited_pct": float,  # share of the time without a core, median; see sample.Sample
    "median_us": float,
    "p20_us": float,
    "p80_us": float,
    "gflops": float,  # matrix products only
    "pct_peak": float,  # of the measured FMA peak for this dtype and number of threads
    "speedup": float,  # this provider's time / subject's, by round, median: > 1: subject is faster
    "pct_roofline": float,  # least time / measured; only if parameters exceed the last-level cache
    "peak_mb": float,  # most resident memory a fresh process needed for the cell, in MB (1e6)
    "gb_per_s": float,  # of bandwidth only
    "cache_mb": float,  # of bandwidth only: the last-level cache, in MB (1e6)
}
PEAK = "peak"
BANDWIDTH = "bandwidth"
LIMITS = (PEAK, BANDWIDTH)

Row = dict[str, str | int | float]


def quantile(values: Sequence[float], q: float) -> float:
    """Value below which a share `q` of `values` lies, interpolated linearly between neighbours."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def geomean(values: Iterable[float]) -> float:
    """Geometric mean: the only average of ratios that does not depend on who is the numerator."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs))


def paired_ratio(times: Sequence[float], subject_times: Sequence[float]) -> float:
    """Median over rounds of ``time / subject's time in the same round``.

    Raises:
        ValueError: if the two do not have the same number of rounds.
    """
    return quantile([a / b for a, b in zip(times, subject_times, strict=True)], 0.5)


def peak_row(run: Row, dtype: str, threads: int, isa: str, gflops: float) -> Row:
    """The row of a measured FMA peak; `run` has the columns all rows of a run share."""
    return run | {
        "provider": PEAK,
        "isa": isa,
        "dtype": dtype,
        "threads": threads,
        "gflops": round(gflops, 2),
    }


def limit_rows(run: Row, threads: int, limits: Limits) -> list[Row]:
    """The rows of the machine's limits; `run` has the columns all rows of a run share."""
    peaks = [
        peak_row(run, dtype, threads, isa, gflops) for dtype, (isa, gflops) in limits.peaks.items()
    ]
    bandwidth = run | {"provider": BANDWIDTH, "threads": threads}
    cache = {"cache_mb": round(limits.cache_bytes / 1e6, 1)}
    return peaks + [
        bandwidth | {"isa": kind, "gb_per_s": round(rate, 2)} | cache
        for kind, rate in limits.bandwidths.items()
    ]


def rows_of_cell(
    cell: Cell,
    rounds: Sequence[dict[str, Sample]],
    described: dict[str, dict[str, str]],
    limits: Limits,
    run: Row,
    memory: dict[str, int],
) -> list[Row]:
    """Summarise one measured cell.

    Args:
        cell: what was measured.
        rounds: samples by provider, one dict per round.
        described: ``version`` and ``isa`` by provider; the first one with samples is the subject.
        limits: measured on the cell's number of threads.
        run: the columns that all rows of a run share.
        memory: peak of the bytes that the cell costs by provider; empty if not measured.

    Returns:
        One row for each provider with samples, in the order of `described`.
    """
    providers = [provider for provider in described if provider in rounds[0]]
    subject = providers[0]
    least = limits.roofline_seconds(cell)
    subject_times = [samples[subject].seconds for samples in rounds]
    rows = []
    for provider in providers:
        facts = described[provider]
        times = [samples[provider].seconds for samples in rounds]
        waited = quantile([samples[provider].waited for samples in rounds], 0.5)
        median = quantile(times, 0.5)
        gflops = cell.flops / median / 1e9
        rows.append(
            run
            | {
                "provider": provider,
                "version": facts["version"],
                "isa": facts["isa"],
                "subject": subject,
                "mode": cell.mode,
                "net": cell.name,
                "M": cell.batch,
                "K": cell.sizes[0] if cell.is_layer else "",
                "N": cell.sizes[1] if cell.is_layer else "",
                "dtype": cell.dtype,
                "threads": cell.threads,
                "rounds": len(rounds),
                "waited_pct": round(100 * waited, 1),
                "median_us": round(median * 1e6, 3),
                "p20_us": round(quantile(times, 0.2) * 1e6, 3),
                "p80_us": round(quantile(times, 0.8) * 1e6, 3),
                "gflops": round(gflops, 2),
                "pct_peak": round(100 * gflops / limits.peaks[cell.dtype][1], 1),
                "speedup": round(paired_ratio(times, subject_times), 4),
                "pct_roofline": "" if least is None else round(100 * least / median, 1),
                "peak_mb": round(memory[provider] / 1e6, 1) if memory else "",
            }
        )
    return rows


class ResultsFile:
    """A CSV that grows row by row, so that a run that was cut short keeps what it measured.

    Args:
        path: overwritten if it exists; its folder is created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.DictWriter(file, COLUMNS).writeheader()

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows; columns a row does not have stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerows(rows)


def read_results(path: Path) -> list[Row]:
    """Read a results file; numbers are numbers again, empty cells stay ``""``.

    Raises:
        ValueError: if the columns are not `COLUMNS`.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != list(COLUMNS):
            raise ValueError(f"{path}: expected columns {list(COLUMNS)}, got {reader.fieldnames}")
        return [
            {name: convert(row[name]) if row[name] else "" for name, convert in COLUMNS.items()}
            for row in reader
        ]
