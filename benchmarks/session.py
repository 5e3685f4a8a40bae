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
from benchmarks.limits import Limits, measure_limits
from benchmarks.machine import HERE, commit, cpu_model, pick_cores
from benchmarks.providers import DEFAULT_PROVIDERS, PEERS, find_provider, is_ours
from benchmarks.results_file import ResultsFile, Row, limit_rows, rows_of_cell
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
    names = list(PEERS) if text == "peers" else text.split(",")
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
        help="comma-separated names or module:Class, or `peers` for all; the ratios of a cell are "
        "about the first one that supports it",
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
        "--memory",
        action="store_true",
        help="measure peak memory too: starts a process for each cell and provider",
    )
    add(
        "--csv",
        type=Path,
        default=HERE.parent / "out" / "bench.csv",
        help="results file, overwritten (default: %(default)s)",
    )


def selected_cells(options: Any, modes: Sequence[str] = MODES) -> list[Cell]:
    """The cells that the options keep, among those of `modes`, and that a provider supports."""
    wanted = [mode for mode in modes if mode in options.modes]
    cells = grid(wanted, options.dtype, options.threads, options.quick)
    providers = [find_provider(name) for name in options.providers]
    return [
        cell
        for cell in cells
        if options.shape in cell.id and any(provider.supports(cell) for provider in providers)
    ]


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
        self._limits: dict[int, Limits] = {}  # by number of threads
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

    def subject(self, cell: Cell) -> str:
        """The provider that the ratios of a cell are about: the first one that supports it."""
        names = self._options.providers
        return next(name for name in names if find_provider(name).supports(cell))

    def round(self) -> Round:
        """Time the prepared cell once with every provider that supports it.

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
        memory = self._crew.memory(cell) if self._options.memory else {}
        limits = self._limits[cell.threads]
        rows = rows_of_cell(cell, rounds, self._crew.described, limits, self._run, memory)
        self.results.append(rows)
        return rows

    def _start_crew(self, threads: int) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        cores = pick_cores(threads)
        build_dir = Path(self._build.name)
        if threads not in self._limits:
            self._limits[threads] = measure_limits(threads, cores, build_dir)
            self.results.append(limit_rows(self._run, threads, self._limits[threads]))
        isa, names = self._options.isa, self._options.providers
        environments = {name: {"PYFASTNN_ISA": isa} for name in names if isa and is_ours(name)}
        self._crew = Crew(names, cores, build_dir, environments)
        self._threads = threads
