"""Glue between pytest-benchmark and the interleaved measurement.

Each test is one cell. One pytest-benchmark round is one round of all providers, but the suite's
clock is not the wall: it is the stopwatch inside the process of the subject, the first provider
that supports the cell, so the statistics are its seconds per step. The other providers' medians and
the ratios are in ``extra_info``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.crew import Round
from benchmarks.report import report
from benchmarks.session import Session, add_options, selected_cells
from benchmarks.shapes import Cell
from benchmarks.stopwatch import advance

_RESULTS = pytest.StashKey[Path]()  # set once a test has started the run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Give the suites the options of compare.py."""
    add_options(parser.getgroup("pyfastnn benchmarks").addoption)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each cell of the modes that the module names in ``MODES``."""
    if "cell" in metafunc.fixturenames:
        cells = selected_cells(metafunc.config.option, metafunc.module.MODES)
        metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The run all tests share."""
    with Session(request.config.option) as session:
        request.config.stash[_RESULTS] = session.results.path
        yield session


@pytest.fixture
def measure(session: Session, benchmark: BenchmarkFixture) -> Callable[[Cell], None]:
    """Measure a cell through pytest-benchmark and record its rows."""

    def run(cell: Cell) -> None:
        rounds: list[Round] = []
        count = session.prepare(cell)
        subject = session.subject(cell)

        def one_round() -> None:
            rounds.append(session.round())
            advance(rounds[-1][subject].seconds)

        benchmark.params = asdict(cell)
        benchmark.group = f"{cell.mode} {cell.dtype} {cell.threads} threads"
        benchmark.pedantic(one_round, rounds=count, iterations=1)
        for row in session.record(cell, rounds):
            benchmark.extra_info[row["provider"]] = row

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of the file the run wrote."""
    if _RESULTS in terminalreporter.config.stash:
        terminalreporter.write_line(report(terminalreporter.config.stash[_RESULTS]))
