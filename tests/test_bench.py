"""The benchmarks measure what they say: shapes, arithmetic, refusal of wrong results, turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_fakes import LostRow, NanInOutput, NoMask, NoRelu, Numpy

from benchmarks import compare, plot, report, session
from benchmarks.crew import Crew, WorkerError
from benchmarks.inputs import Arrays, make_inputs, round_to_bfloat16
from benchmarks.providers import PROVIDERS, find_provider
from benchmarks.reference import WrongResultError, check
from benchmarks.results_file import (
    COLUMNS,
    PEAK,
    ResultsFile,
    geomean,
    paired_ratio,
    peak_row,
    quantile,
    read_results,
    rows_of_cell,
)
from benchmarks.sample import Sample
from benchmarks.shapes import LAYER_MODES, NET_MODES, Cell, grid

CORE = min(os.sched_getaffinity(0))
ROOT = Path(__file__).resolve().parent.parent
LAYER = Cell("fprop_backward", "64-48", (64, 48), 8, "float32", 1)
NET = Cell("train_step", "20-16-12-5", (20, 16, 12, 5), 32, "float32", 1)


def results_of(provider: Numpy, cell: Cell) -> tuple[Arrays, Arrays]:
    inputs = make_inputs(cell)
    return inputs, provider.build(cell, inputs).results()


def samples(**seconds: float) -> dict[str, Sample]:
    return {name: Sample(value, waited=0.0) for name, value in seconds.items()}


# --- shapes and inputs ----------------------------------------------------------------------------


def test_grid_is_the_one_that_is_promised() -> None:
    cells = grid()
    layers = {(c.batch, c.sizes) for c in cells if c.is_layer}
    sizes = [(16, 16), (64, 64), (128, 64), (784, 128), (256, 256), (1024, 1024)]
    assert layers == {(m, s) for m in (1, 8, 64, 256, 1024, 4096) for s in sizes}
    assert {(c.batch, c.sizes) for c in cells if not c.is_layer} == {
        *((batch, (784, 128, 64, 10)) for batch in (1, 16, 64, 1024)),
        (65536, (64, 64, 64, 64, 64, 64, 64, 64, 3)),
        (64, (17, 256, 256, 6)),
        *((64, sizes) for sizes in ((100, 300, 50, 7), (33, 65, 129, 2))),
        (1024, (1024, 1024, 1024, 1024, 1024)),
    }
    assert {(c.mode, c.dtype, c.threads) for c in cells} == {
        (mode, dtype, threads)
        for mode in ("fprop", "fprop_backward", "forward", "train_step")
        for dtype in ("float32", "bfloat16")
        for threads in (1, 2)
    }
    assert len(cells) == len({c.id for c in cells}) == (36 * 2 + 9 * 2) * 2 * 2


def test_quick_grid_is_a_small_part_of_the_grid_with_every_mode() -> None:
    quick = grid(quick=True)
    assert set(quick) < set(grid())
    assert {c.mode for c in quick} == {*LAYER_MODES, *NET_MODES}
    assert len(quick) <= 40


def test_flops_count_each_product_once() -> None:
    assert Cell("fprop", "", (3, 5), 7, "float32", 1).flops == 2 * 7 * 3 * 5
    assert Cell("fprop_backward", "", (3, 5), 7, "float32", 1).flops == 3 * 2 * 7 * 3 * 5
    first, second = 2 * 7 * 3 * 5, 2 * 7 * 5 * 2
    assert Cell("forward", "", (3, 5, 2), 7, "float32", 1).flops == first + second
    assert Cell("train_step", "", (3, 5, 2), 7, "float32", 1).flops == 2 * first + 3 * second


def test_bfloat16_inputs_are_rounded_as_torch_rounds() -> None:
    values = np.random.default_rng(0).standard_normal(10_000, np.float32)
    values[:3] = [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)]  # ties
    want = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(round_to_bfloat16(values), want)


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
    run = {"time": "now", "commit": "abc", "cpu": "some cpu"}
    rows = rows_of_cell(LAYER, rounds, facts, 100.0, run)
    file = ResultsFile(tmp_path / "new" / "results.csv")
    file.append([peak_row(run, "float32", 1, "avx2", 100.0)])
    file.append(rows)
    peak, own, other = read_results(file.path)
    assert list(own) == list(COLUMNS)
    assert (peak["provider"], peak["gflops"], peak["M"]) == (PEAK, 100.0, "")
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


# --- correctness before time ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", [*LAYER_MODES, *NET_MODES])
def test_right_results_pass(mode: str, dtype: str) -> None:
    sizes = (64, 48) if mode in LAYER_MODES else (20, 16, 12, 5)
    cell = Cell(mode, "", sizes, 32, dtype, 1)
    inputs = make_inputs(cell)
    results = find_provider("torch").build(cell, inputs).results()
    torch.set_grad_enabled(True)  # the provider sets it for its whole process
    check(cell, inputs, results, "torch")


@pytest.mark.parametrize(
    ("wrong", "cell", "named"),
    [
        (NoRelu, LAYER, "output"),
        (NoMask, LAYER, "grad_input"),
        (LostRow, LAYER, "grad_weight"),
        (LostRow, Cell("fprop_backward", "", (16, 16), 4096, "bfloat16", 1), "grad_weight"),
        (NanInOutput, LAYER, "output"),
        (NoRelu, NET, "loss"),
        (NoMask, NET, "weight.1"),
    ],
)
def test_wrong_results_are_refused(wrong: type[Numpy], cell: Cell, named: str) -> None:
    check(cell, *results_of(Numpy(), cell), "right")
    with pytest.raises(WrongResultError, match=rf"wrong: .*: {named} differs from float64"):
        check(cell, *results_of(wrong(), cell), "wrong")


def test_missing_and_misshapen_results_are_refused() -> None:
    inputs, results = results_of(Numpy(), LAYER)
    with pytest.raises(
        WrongResultError, match=r"expected grad_bias of shape \[48\], got \[1, 48\]"
    ):
        check(LAYER, inputs, results | {"grad_bias": results["grad_bias"][None]}, "numpy")
    del results["grad_weight"]
    with pytest.raises(WrongResultError, match="expected a result 'grad_weight', got none"):
        check(LAYER, inputs, results, "numpy")


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """Prefix of the names of fake providers, which worker processes can import too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return "bench_fakes:"


@pytest.fixture
def made_up_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"float32": ("avx2", 100.0), "bfloat16": ("avx2", 100.0)}
    monkeypatch.setattr(session, "fma_peak", lambda *_: peaks)


def all_stopped(crew: Crew) -> bool:
    """Whether every worker is in Linux's state T within two seconds; a signal needs a moment."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        stats = [Path(f"/proc/{worker.pid}/stat").read_text() for worker in crew.workers]
        if all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats):
            return True
    return False


def test_workers_stand_still_out_of_turn_and_end_with_the_crew(here: str, tmp_path: Path) -> None:
    names = [f"{here}Numpy", f"{here}Slower"]
    with contextlib.closing(Crew(names, [CORE], tmp_path, {})) as crew:
        pids = [worker.pid for worker in crew.workers]
        assert all_stopped(crew)
        assert crew.load(LAYER) > 0
        assert all(sample.seconds > 0 for sample in crew.round().values())
        assert all_stopped(crew)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_failure_in_a_worker_is_told_with_its_traceback(here: str, tmp_path: Path) -> None:
    message = r"(?s)load failed.*NotImplementedError: no such layer"
    with (
        contextlib.closing(Crew([f"{here}Raising"], [CORE], tmp_path, {})) as crew,
        pytest.raises(WorkerError, match=message),
    ):
        crew.load(LAYER)


def test_providers_are_found_by_name_or_path() -> None:
    for name in PROVIDERS:
        assert hasattr(find_provider(name), "build")
    with pytest.raises(ValueError, match="torch, torch_avx512, pyfastnn_step, got 'no'"):
        find_provider("no")


@pytest.mark.usefixtures("made_up_peak")
def test_compare_measures_reports_and_draws(
    here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.csv"
    arguments = ["--quick", "--providers", f"{here}Slower,{here}Numpy", "--threads", "1"]
    arguments += ["--dtype", "float32", "--modes", "fprop_backward,train_step", "--shape", "b64"]
    assert compare.main([*arguments, "--csv", str(path)]) == 0
    rows = [row for row in read_results(path) if row["provider"] != PEAK]
    assert len(rows) == 3 * 2
    printed = capsys.readouterr().out
    assert f"cells in which {here}Slower is slower" in printed
    assert report.report(path) in printed

    picture = tmp_path / "picture.png"
    plot.draw(read_results(path), picture, "float32", 1, "784-128")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected train_step rows, bfloat16"):
        plot.draw(read_results(path), picture, "bfloat16", 1, "784-128")


@pytest.mark.usefixtures("made_up_peak")
def test_compare_refuses_a_wrong_provider(
    here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.csv"
    arguments = ["--quick", "--providers", f"{here}Numpy,{here}NoMask", "--csv", str(path)]
    assert compare.main([*arguments, "--shape", "fprop_backward-64-64-b8-float32-t1"]) == 1
    assert "NoMask: fprop_backward-64-64-b8-float32-t1: grad_input" in capsys.readouterr().err
    assert all(row["provider"] == PEAK for row in read_results(path))


def test_losses_are_counted_and_shown() -> None:
    facts = {name: {"version": "1", "isa": "x"} for name in ("pyfastnn", "torch")}
    run = {"time": "now", "commit": "abc", "cpu": "some cpu"}
    rows = [peak_row(run, "float32", 1, "avx2", 100.0)]
    for batch, torch_seconds in ((1, 4.0), (8, 0.99), (64, 0.5)):
        cell = Cell("fprop", "64-48", (64, 48), batch, "float32", 1)
        measured = [samples(pyfastnn=1.0, torch=torch_seconds)]
        rows += rows_of_cell(cell, measured, facts, 100.0, run)
    line = report.summary(rows).splitlines()[-1]
    assert line.split()[-6:] == ["3", "1.26", "0.50", "4.00", "2", "1"]
    losses = report.losses(rows).splitlines()
    assert losses[1] == "cells in which pyfastnn is slower (2)"
    assert "64-48 batch 64" in losses[2]
    assert "64-48 batch 8" in losses[3]


def test_pytest_benchmark_suite_keeps_the_workers_time(here: str, tmp_path: Path) -> None:
    results, output = tmp_path / "results.csv", tmp_path / "bench.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["benchmarks/bench_layers.py", f"--benchmark-json={output}", f"--csv={results}"]
    command += [f"--providers={here}Numpy,{here}Slower", "--quick"]
    command += ["--shape=fprop-64-64-b8-float32-t1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (benchmark,) = json.loads(output.read_text())["benchmarks"]
    rows = {str(row["provider"]): row for row in read_results(results)}
    own = rows[f"{here}Numpy"]
    assert benchmark["stats"]["median"] * 1e6 == pytest.approx(own["median_us"], abs=1e-3)
    assert benchmark["stats"]["rounds"] == own["rounds"]
    assert benchmark["extra_info"][f"{here}Slower"]["speedup"] > 2
    assert rows[PEAK]["gflops"] > 1  # measured for real here
    assert "against" in done.stdout
