"""What type checkers and editors know about the public names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pyfastnn
import pyfastnn.sklearn

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "tests" / "typing_sample.py"


def complaints(path: Path) -> list[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == "" and result.returncode == bool(result.stdout)
    return result.stdout.splitlines()


def public_names(module) -> set[str]:
    defined = {name for name, value in vars(module).items() if defined_in(module, value)}
    return set(getattr(module, "__all__", defined))


def defined_in(module, value) -> bool:
    named = inspect.isclass(value) or inspect.isfunction(value)
    return named and value.__module__ == module.__name__ and not value.__name__.startswith("_")


def test_types_are_known_and_wrong_ones_refused_in_a_users_code():
    assert complaints(SAMPLE) == []


def test_each_ignore_of_the_sample_hides_an_error(tmp_path):
    bare = tmp_path / "sample.py"
    bare.write_text(SAMPLE.read_text().replace("# type: ignore", "# "))
    lines = SAMPLE.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "# type: ignore" in line}
    assert len(wrong) > 10
    assert {int(line.split(":")[1]) for line in complaints(bare) if "error:" in line} == wrong


@pytest.mark.parametrize(
    "module",
    [pyfastnn, pyfastnn.functional, pyfastnn.autograd, pyfastnn.plot, pyfastnn.sklearn],
    ids=lambda m: m.__name__,
)
def test_the_users_code_has_every_public_name(module):
    names = public_names(module)
    assert len(names) >= 2
    nodes = list(ast.walk(ast.parse(SAMPLE.read_text())))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert names - used == set()
