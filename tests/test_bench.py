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
from bench_fakes import LIMITS_OF_A_FAKE, LostRow, NanInOutput, NoMask, NoRelu, Numpy

from benchmarks import compare, cuda, report, session
from benchmarks.crew import Crew, WorkerError
from benchmarks.inputs import Arrays, make_inputs, round_to_bfloat16
from benchmarks.providers import PROVIDERS, find_provider
from benchmarks.reference import WrongResultError, check
from benchmarks.results_file import LIMITS, PEAK, read_results
from benchmarks.shapes import LAYER_MODES, NET_MODES, Cell, grid

CORE = min(os.sched_getaffinity(0))
ROOT = Path(__file__).resolve().parent.parent
LAYER = Cell("fprop_backward", "64-48", (64, 48), 8, "float32", 1)
NET = Cell("train_step", "20-16-12-5", (20, 16, 12, 5), 32, "float32", 1)


def results_of(provider: Numpy, cell: Cell) -> tuple[Arrays, Arrays]:
    inputs = make_inputs(cell)
    return inputs, provider.build(cell, inputs).results()


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
        *((batch, (4096, 4096)) for batch in (16, 128)),
        (1024, (1024, 1024, 1024, 1024, 1024)),
    }
    assert {(c.mode, c.dtype, c.threads) for c in cells} == {
        (mode, dtype, threads)
        for mode in ("fprop", "fprop_backward", "forward", "train_step")
        for dtype in ("float32", "bfloat16")
        for threads in (1, 2)
    }
    assert len(cells) == len({c.id for c in cells}) == (36 * 2 + 11 * 2) * 2 * 2


def test_quick_grid_is_a_small_part_of_the_grid_with_every_mode() -> None:
    quick = grid(quick=True)
    assert set(quick) < set(grid())
    assert {c.mode for c in quick} == {*LAYER_MODES, *NET_MODES}
    assert len(quick) <= 48


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
def made_up_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "measure_limits", lambda *_: LIMITS_OF_A_FAKE)


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
    with pytest.raises(ValueError, match=r"torch, torch_avx512, .*, openvino, got 'no'"):
        find_provider("no")


@pytest.mark.usefixtures("made_up_limits")
def test_compare_measures_and_reports(
    here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.csv"
    arguments = ["--quick", "--providers", f"{here}Slower,{here}Numpy", "--threads", "1"]
    arguments += ["--dtype", "float32", "--modes", "fprop_backward,train_step", "--shape", "b64"]
    assert compare.main([*arguments, "--csv", str(path)]) == 0
    rows = [row for row in read_results(path) if row["provider"] not in LIMITS]
    assert len(rows) == 3 * 2
    printed = capsys.readouterr().out
    assert f"cells in which {here}Slower is slower" in printed
    assert report.report(path) in printed


@pytest.mark.usefixtures("made_up_limits")
def test_compare_refuses_a_wrong_provider(
    here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.csv"
    arguments = ["--quick", "--providers", f"{here}Numpy,{here}NoMask", "--csv", str(path)]
    assert compare.main([*arguments, "--shape", "fprop_backward-64-64-b8-float32-t1"]) == 1
    assert "NoMask: fprop_backward-64-64-b8-float32-t1: grad_input" in capsys.readouterr().err
    assert all(row["provider"] in LIMITS for row in read_results(path))


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


def test_the_benchmark_on_a_device_compiles_for_each_batch(monkeypatch):
    rows, compile = [], torch.compile

    def record(graph, inputs):
        rows.append(inputs[-1].shape[0])
        return graph

    monkeypatch.setattr(cuda, "plain", lambda case: torch.nn.Sequential(torch.nn.Linear(4, 3)))
    monkeypatch.setattr(torch, "compile", lambda model, mode: compile(model, backend=record))
    for batch in (2, 3, 5):
        network = cuda.compiled(cuda.Case("4-3", (4, 3), batch, torch.float32, False))
        network(torch.ones(batch, 4))
    assert rows == [2, 3, 5]
