"""Peers: what they can do is asked first, and each runs where it is installed. None is needed."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path

import pytest
from bench_fakes import LIMITS_OF_A_FAKE

from benchmarks import compare, session
from benchmarks.crew import Crew, WorkerError
from benchmarks.providers import PEERS, PROVIDERS, find_provider, is_ours
from benchmarks.results_file import LIMITS, read_results
from benchmarks.shapes import Cell, grid

CORE = min(os.sched_getaffinity(0))
ROOT = Path(__file__).resolve().parent.parent
NET = Cell("train_step", "20-16-12-5", (20, 16, 12, 5), 32, "float32", 1)
FORWARD = Cell("forward", "20-16-12-5", (20, 16, 12, 5), 32, "float32", 1)
IN_PEERS = ("jax", "tensorflow", "tensorflow_xla", "sklearn", "numpy", "onnxruntime", "openvino")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """Prefix of the names of fake providers, which worker processes can import too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return "bench_fakes:"


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    session.add_options(parser.add_argument)
    return parser.parse_args(arguments)


def test_peers_stands_for_all_of_them() -> None:
    assert tuple(options("--providers", "peers").providers) == PEERS
    assert set(PEERS) == set(PROVIDERS)


def test_which_cells_a_provider_supports() -> None:
    supported = {
        name: {(c.mode, c.dtype) for c in grid() if find_provider(name).supports(c)}
        for name in PROVIDERS
    }
    forward, train = ("forward", "float32"), ("train_step", "float32")
    for name in ("jax", "tensorflow", "tensorflow_xla", "numpy"):
        assert supported[name] == {forward, train}
    assert supported["onnxruntime"] == supported["openvino"] == {forward}
    assert supported["sklearn"] == {train}
    assert {mode for mode, _ in supported["pyfastnn_step"]} == {"train_step"}
    assert {mode for mode, _ in supported["torch_compile"]} == {"forward", "train_step"}
    two_classes = Cell("train_step", "", (33, 2), 64, "float32", 1)
    assert not find_provider("sklearn").supports(two_classes)


def test_cells_that_nobody_supports_are_left_out() -> None:
    chosen = options("--providers", "onnxruntime,sklearn", "--threads", "1")
    assert {cell.mode for cell in session.selected_cells(chosen)} == {"forward", "train_step"}
    assert {cell.dtype for cell in session.selected_cells(chosen)} == {"float32"}


@pytest.mark.parametrize("name", PROVIDERS)
def test_who_runs_where(name: str) -> None:
    interpreter = find_provider(name).interpreter()
    expected = ROOT / ".venv-peers/bin/python" if name in IN_PEERS else Path(sys.executable)
    assert interpreter == expected


def test_a_worker_has_the_interpreter_cores_and_threads_of_its_provider(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text(f'#!/bin/sh\nPYTHONEXECUTABLE=other exec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("BENCH_FAKES_PYTHON", str(other))
    with contextlib.closing(Crew([f"{here}Elsewhere"], [CORE], tmp_path, {})) as crew:
        (facts,) = crew.described.values()
    assert facts["isa"] == facts["cores"] == "1"
    monkeypatch.setenv("BENCH_FAKES_PYTHON", str(tmp_path / "missing"))
    with pytest.raises(WorkerError, match=r"Elsewhere: expected the interpreter .*missing, found"):
        Crew([f"{here}Elsewhere"], [CORE], tmp_path, {})


def test_only_those_who_support_a_cell_measure_it(here: str, tmp_path: Path) -> None:
    numpy, training = f"{here}Numpy", f"{here}OnlyTraining"
    with contextlib.closing(Crew([training, numpy], [CORE], tmp_path, {})) as crew:
        crew.load(FORWARD)
        assert set(crew.round()) == {numpy}
        crew.load(NET)
        assert set(crew.round()) == {numpy, training}


def test_memory_is_the_peak_of_a_fresh_process(here: str, tmp_path: Path) -> None:
    names = [f"{here}Numpy", f"{here}Hungry"]
    with contextlib.closing(Crew(names, [CORE], tmp_path, {})) as crew:
        frugal, hungry = crew.memory(NET).values()
        assert set(crew.memory(FORWARD)) == {f"{here}Numpy"}
    assert 64e6 < hungry < 64e6 + 16e6
    assert 0 <= frugal < 16e6


def test_compare_writes_memory_and_one_subject_for_each_cell(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "measure_limits", lambda *_: LIMITS_OF_A_FAKE)
    path = tmp_path / "results.csv"
    arguments = ["--quick", "--providers", f"{here}OnlyTraining,{here}Numpy", "--threads", "1"]
    arguments += ["--dtype", "float32", "--modes", "forward,train_step", "--shape", "17-256"]
    assert compare.main([*arguments, "--memory", "--csv", str(path)]) == 0
    rows = [row for row in read_results(path) if row["provider"] not in LIMITS]
    subjects = [(row["mode"], row["provider"], row["subject"]) for row in rows]
    assert subjects == [
        ("forward", f"{here}Numpy", f"{here}Numpy"),
        ("train_step", f"{here}OnlyTraining", f"{here}OnlyTraining"),
        ("train_step", f"{here}Numpy", f"{here}OnlyTraining"),
    ]
    assert all(isinstance(row["peak_mb"], float) for row in rows)


def test_pins_are_complete_and_exact() -> None:
    lines = (ROOT / "benchmarks" / "peers.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9]+(\.[0-9a-z]+)*", pin) for pin in pins)
    assert not {pin.split("==")[0] for pin in pins} & {"torch", "pyfastnn"}


def test_forms_of_pyfastnn_are_no_peers_of_it() -> None:
    assert [name for name in PEERS if is_ours(name)] == [
        "pyfastnn_step",
        "pyfastnn_prepack",
        "pyfastnn",
    ]
