"""`make bench-clients`: what it writes, and where."""

import csv
from pathlib import Path

import pytest

from benchmarks.clients import CLIENTS
from benchmarks.clients.__main__ import main
from benchmarks.clients.table import BEGIN, END, markdown, put_into
from benchmarks.clients.timing import fused_layers

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
ROW = {
    "client": "a",
    "layers": "1 of 2",
    "round": "step",
    "threads": 1,
    "pairs": 3,
    "plain_ms": 2.0,
    "fused_ms": 1.0,
    "speedup": 2.0,
    "speedup_p20": 1.5,
    "speedup_p80": 2.5,
} | {"time": "now", "commit": "c", "cpu": "p"}


def test_a_quick_run_writes_the_results_and_leaves_the_page_alone(tmp_path: Path, capsys):
    page, results = tmp_path / "page.md", tmp_path / "new" / "clients.csv"
    page.write_text(PAGE.read_text())
    arguments = ["--quick", "--client", "in a single file", "--csv", str(results)]
    assert main([*arguments, "--page", str(page)]) == 0
    assert page.read_text() == PAGE.read_text()
    with results.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["client"] for row in rows] == ["DQN in a single file", "SAC in a single file"]
    assert all(float(row["plain_ms"]) > 0 < float(row["speedup"]) for row in rows)
    assert "| DQN in a single file, per update | 4 of 8 |" in capsys.readouterr().out


def test_an_unknown_client_is_an_error(capsys):
    assert main(["--client", "no such"]) == 1
    assert "'no such'" in capsys.readouterr().err


def test_the_table_has_every_row_and_names_those_that_lost():
    table = markdown([ROW, ROW | {"client": "b", "speedup": 0.99}])
    assert "| a, per step | 1 of 2 | 2 | 1 | 2.00 (1.50 to 2.50) |" in table
    assert table.endswith("Slower than plain PyTorch: b.")


def test_the_table_goes_between_the_marks_of_the_page():
    page = put_into(PAGE.read_text(), "new")
    assert f"{BEGIN}\nnew\n{END}" in page
    assert put_into(page, "newer") == put_into(PAGE.read_text(), "newer")
    with pytest.raises(ValueError, match="expected the marks"):
        put_into("no marks", "new")


def test_layers_of_a_plain_model_do_not_count_as_fused():
    client = CLIENTS["skorch NeuralNetClassifier, digits"]
    assert fused_layers(client.make(False).module) == "0 of 3"
    assert fused_layers(client.make(True).module) == "3 of 3"
