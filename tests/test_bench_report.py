"""Results files, tables and picture say what was measured, whoever took part in a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_fakes import LIMITS_OF_A_FAKE

from benchmarks import plot, report
from benchmarks.results_file import (
    BANDWIDTH,
    COLUMNS,
    PEAK,
    ResultsFile,
    Row,
    geomean,
    limit_rows,
    paired_ratio,
    quantile,
    read_results,
    rows_of_cell,
)
from benchmarks.sample import Sample
from benchmarks.shapes import Cell
from benchmarks.tables import compared_cells

RUN: Row = {"time": "now", "commit": "abc", "cpu": "some cpu"}
LAYER = Cell("fprop_backward", "64-48", (64, 48), 8, "float32", 1)


def samples(**seconds: float) -> dict[str, Sample]:
    return {name: Sample(value, waited=0.0) for name, value in seconds.items()}


def rows_of(cell: Cell, memory: dict[str, int] | None = None, **seconds: float) -> list[Row]:
    facts = {name: {"version": "1", "isa": "x"} for name in seconds}
    return rows_of_cell(cell, [samples(**seconds)], facts, LIMITS_OF_A_FAKE, RUN, memory or {})


def net(mode: str, name: str = "20-5", sizes: tuple[int, ...] = (20, 5), batch: int = 8) -> Cell:
    return Cell(mode, name, sizes, batch, "float32", 1)


def mixed() -> list[Row]:
    """Two modes with different subjects and providers; the last network exceeds the fake cache."""
    large = net("train_step", "1000-1000", (1000, 1000))
    return [
        *limit_rows(RUN, 1, LIMITS_OF_A_FAKE),
        *rows_of(net("forward"), pyfastnn_prepack=1.0, pyfastnn=1.5, jax=2.0, openvino=0.8),
        *rows_of(net("train_step"), pyfastnn_step=1.0, pyfastnn=0.5, jax=2.0, sklearn=9.0),
        *rows_of(large, {"pyfastnn_step": 10**7, "jax": 10**6}, pyfastnn_step=1e-3, jax=5e-4),
    ]


# --- arithmetic -----------------------------------------------------------------------------------


def test_geomean_and_quantile() -> None:
    assert geomean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert quantile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert quantile([5.0, 1.0, 2.0, 3.0, 4.0], 0.2) == pytest.approx(1.8)
    assert quantile([7.0], 0.8) == 7.0


def test_ratio_is_taken_within_each_round() -> None:
    # The other takes twice as long. The machine becomes ten times slower, for the subject one turn
    # earlier: the ratio of the two medians would be 2 / 10.
    assert paired_ratio([2, 2, 2, 20, 20], [1, 1, 10, 10, 10]) == 2
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1.0], [1.0, 1.0])


def test_rows_survive_the_csv(tmp_path: Path) -> None:
    rounds = [samples(pyfastnn=1e-6, torch=3e-6), samples(pyfastnn=2e-6, torch=4e-6)]
    facts = {name: {"version": "1", "isa": "x"} for name in ("pyfastnn", "torch")}
    memory = {"pyfastnn": 1_500_000, "torch": 3_000_000}
    file = ResultsFile(tmp_path / "new" / "results.csv")
    file.append(limit_rows(RUN, 1, LIMITS_OF_A_FAKE))
    file.append(rows_of_cell(LAYER, rounds, facts, LIMITS_OF_A_FAKE, RUN, memory))
    peak, _, read, update, own, other = read_results(file.path)
    assert list(own) == list(COLUMNS)
    assert (peak["provider"], peak["gflops"], peak["M"]) == (PEAK, 100.0, "")
    assert (read["provider"], read["isa"], read["gb_per_s"]) == (BANDWIDTH, "read", 10.0)
    assert (update["isa"], update["gb_per_s"], update["cache_mb"]) == ("update", 20.0, 1.0)
    assert (own["peak_mb"], other["peak_mb"], own["pct_roofline"]) == (1.5, 3.0, "")
    assert (own["M"], own["K"], own["N"], own["median_us"]) == (8, 64, 48, 1.5)
    assert own["gflops"] == pytest.approx(LAYER.flops / 1.5e-6 / 1e9, rel=1e-4)
    assert own["pct_peak"] == pytest.approx(own["gflops"], abs=0.1)  # of 100 GFLOP/s
    assert (own["speedup"], other["speedup"]) == (1.0, 2.5)  # median of 3 and 2
    assert other["subject"] == "pyfastnn"


def test_reading_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected columns"):
        read_results(path)


def test_losses_are_counted_and_shown() -> None:
    rows = limit_rows(RUN, 1, LIMITS_OF_A_FAKE)
    for batch, torch_seconds in ((1, 4.0), (8, 0.99), (64, 0.5)):
        cell = Cell("fprop", "64-48", (64, 48), batch, "float32", 1)
        rows += rows_of(cell, pyfastnn=1.0, torch=torch_seconds)
    line = report.summary(rows).splitlines()[-1]
    assert line.split()[-6:] == ["3", "1.26", "0.50", "4.00", "2", "1"]
    losses = report.losses(rows).splitlines()
    assert losses[1] == "cells in which pyfastnn is slower (2)"
    assert "64-48 batch 64" in losses[2]
    assert "64-48 batch 8" in losses[3]


# --- who took part --------------------------------------------------------------------------------


def test_the_subject_of_a_cell_is_its_first_provider() -> None:
    forward, train, large = compared_cells(mixed())
    assert (forward.subject, train.subject, large.subject) == (
        "pyfastnn_prepack",
        "pyfastnn_step",
        "pyfastnn_step",
    )
    assert train.ratios == {"pyfastnn": 0.5, "jax": 2.0, "sklearn": 9.0}


def test_the_best_peer_is_the_fastest_that_is_not_a_form_of_pyfastnn() -> None:
    forward, train, large = compared_cells(mixed())
    assert (forward.best_peer, train.best_peer, large.best_peer) == ("openvino", "jax", "jax")
    (alone,) = compared_cells(rows_of(net("forward"), pyfastnn=1.0))
    assert alone.best_peer == ""
    lines = [line.split()[4:] for line in report.summary(mixed()).splitlines()]
    assert ["best", "peer", "1", "0.80", "0.80", "0.80", "1", "1"] in lines  # forward
    assert ["best", "peer", "2", "1.00", "0.50", "2.00", "1", "1"] in lines  # train_step
    text = report.losses(mixed())
    assert "slower (3)\n(against the best peer: 2)" in text
    assert "20-5 batch 8" + " " * 20 + "openvino 0.80" in text


def test_a_provider_without_a_row_leaves_a_dash() -> None:
    (line,) = [line for line in report.ratio_tables(mixed()).splitlines() if "1000-1000" in line]
    assert line.split()[-5:] == ["-", "0.50", "-", "0.50", "jax"]  # pyfastnn, jax, sklearn, best


def test_memory_is_shown_where_it_was_measured() -> None:
    table = report.memory_tables(mixed()).splitlines()
    assert table[-2].split() == ["shape", "batch", "pyfastnn_step", "jax"]
    assert table[-1].split() == ["1000-1000", "8", "10.0", "1.0"]
    assert report.memory_tables(rows_of(net("forward"), pyfastnn=1.0)) == ""


def test_roofline_counts_each_parameter_read_once_and_updated_once() -> None:
    cell = net("train_step", "1000-1000", (1000, 1000))
    size = 4 * 1001 * 1000
    assert cell.parameter_bytes == size
    assert cell.compulsory_bytes == (size, 2 * size)
    assert net("forward", sizes=(1000, 1000)).compulsory_bytes == (size, 0)
    memory = size / 10e9 + 2 * size / 20e9
    assert LIMITS_OF_A_FAKE.roofline_seconds(cell) == pytest.approx(memory)
    arithmetic = net("train_step", sizes=(1000, 1000), batch=10**6)
    assert LIMITS_OF_A_FAKE.roofline_seconds(arithmetic) == pytest.approx(arithmetic.flops / 1e11)
    assert LIMITS_OF_A_FAKE.roofline_seconds(net("train_step")) is None  # fits in the cache
    *_, last = mixed()
    assert last["pct_roofline"] == pytest.approx(100 * memory / 5e-4, abs=0.1)
    assert "read 10.0 GB/s, update 20.0 GB/s on 1" in report.roofline_tables(mixed())


def test_the_picture_copes_with_missing_providers(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    plot.draw(mixed(), picture, "float32", 1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    whole = picture.stat().st_size
    plot.draw(mixed(), picture, "float32", 1, "1000-1000:8")
    assert picture.stat().st_size < whole
    with pytest.raises(ValueError, match="expected train_step or forward rows, bfloat16"):
        plot.draw(mixed(), picture, "bfloat16", 1)
