"""One benchmark run: options, the processes it keeps, the file it writes.

Used by compare.py and by the pytest-benchmark suites, so that both measure the same way.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.crew import Crew, Round
from benchmarks.machine import HERE, commit, cpu_model, fma_peak, pick_cores
from benchmarks.providers import DEFAULT_PROVIDERS, find_provider
from benchmarks.results_file import ResultsFile, Row, peak_row, rows_of_cell
from benchmarks.sample import QUIET
from benchmarks.shapes import DTYPES, MODES, THREADS, Cell, grid

# Per cell: (seconds to spend on rounds, fewest rounds, most rounds).
FULL_EFFORT = (1.5, 7, 41)
QUICK_EFFORT = (0.2, 5, 11)
ATTEMPTS = 3


def _some_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in choices:
                expected = ", ".join(choices)
                raise argparse.ArgumentTypeError(f"expected some of {expected}, got {name!r}")
        return names

    return parse


def _providers(text: str) -> list[str]:
    names = text.split(",")
    try:
        for name in names:
            find_provider(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return names


def _counts(text: str) -> list[int]:
    counts = [int(count) for count in text.split(",") if count.isdecimal()]
    if ",".join(map(str, counts)) != text or 0 in counts:
        raise argparse.ArgumentTypeError(f"expected positive integers like 1,2, got {text!r}")
    return counts


def add_options(add: Callable[..., Any]) -> None:
    """Declare the options of a run with argparse's ``add_argument`` or pytest's ``addoption``."""
    add("--quick", action="store_true", help="a few shapes, few rounds: about a minute")
    add(
        "--providers",
        type=_providers,
        default=list(DEFAULT_PROVIDERS),
        help="comma-separated; the ratios are about the first one; a name or module:Class",
    )
    add("--modes", type=_some_of(MODES), default=list(MODES), help=f"some of {','.join(MODES)}")
    add("--dtype", type=_some_of(DTYPES), default=list(DTYPES), help=f"some of {','.join(DTYPES)}")
    add(
        "--threads",
        type=_counts,
        default=list(THREADS),
        help="comma-separated numbers of threads",
    )
    add("--shape", default="", help="keep the cells whose id contains this, e.g. 784-128 or b64")
    add("--isa", default="", help="sets PYFASTNN_ISA for pyfastnn, e.g. avx2; others are untouched")
    add(
        "--csv",
        type=Path,
        default=HERE.parent / "out" / "bench.csv",
        help="results file, overwritten (default: %(default)s)",
    )


def selected_cells(options: Any, modes: Sequence[str] = MODES) -> list[Cell]:
    """The cells that the options keep, among those of `modes`."""
    wanted = [mode for mode in modes if mode in options.modes]
    cells = grid(wanted, options.dtype, options.threads, options.quick)
    return [cell for cell in cells if options.shape in cell.id]


class Session:
    """Measures cells and writes their rows.

    Args:
        options: has the attributes that `add_options` declares.

    Use as a context manager: leaving it ends all worker processes.
    """

    def __init__(self, options: Any) -> None:
        self._options = options
        self._effort = QUICK_EFFORT if options.quick else FULL_EFFORT
        self._build = tempfile.TemporaryDirectory(prefix="pyfastnn-bench-")
        self._crew: Crew | None = None
        self._threads = 0
        self._peaks: dict[int, dict[str, tuple[str, float]]] = {}
        now = datetime.datetime.now(datetime.UTC)
        self._run: Row = {
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit(),
            "cpu": cpu_model(),
        }
        self.results = ResultsFile(options.csv)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and remove what was built."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        self._build.cleanup()

    def prepare(self, cell: Cell) -> int:
        """Load a cell everywhere and check it.

        Returns:
            How many rounds the effort allows.

        Raises:
            WrongResultError: if a provider computes something wrong.
        """
        if self._crew is None or self._threads != cell.threads:
            self._start_crew(cell.threads)
        assert self._crew is not None
        seconds, fewest, most = self._effort
        return max(fewest, min(most, int(seconds / self._crew.load(cell))))

    @property
    def subject(self) -> str:
        """The provider that the ratios are about."""
        return str(self._options.providers[0])

    def round(self) -> Round:
        """Time the prepared cell once with every provider.

        A round in which something else on the machine kept any provider waiting is thrown away as a
        whole and repeated; if none of `ATTEMPTS` was quiet the last one counts, with its
        ``waited`` to show for it.
        """
        assert self._crew is not None
        for _ in range(ATTEMPTS):
            samples = self._crew.round()
            if all(sample.waited <= QUIET for sample in samples.values()):
                break
        return samples

    def record(self, cell: Cell, rounds: Sequence[Round]) -> list[Row]:
        """Summarise the rounds of a cell, write the rows and return them."""
        assert self._crew is not None
        peak = self._peaks[cell.threads][cell.dtype][1]
        rows = rows_of_cell(cell, rounds, self._crew.described, peak, self._run)
        self.results.append(rows)
        return rows

    def _start_crew(self, threads: int) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        cores = pick_cores(threads)
        build_dir = Path(self._build.name)
        if threads not in self._peaks:
            self._peaks[threads] = fma_peak(threads, cores, build_dir)
            self.results.append(
                peak_row(self._run, dtype, threads, isa, gflops)
                for dtype, (isa, gflops) in self._peaks[threads].items()
            )
        isa = self._options.isa
        environments = {"pyfastnn": {"PYFASTNN_ISA": isa}} if isa else {}
        self._crew = Crew(self._options.providers, cores, build_dir, environments)
        self._threads = threads
