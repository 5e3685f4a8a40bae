"""What the project says about itself agrees: versions, pins, commands, links, the README."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pyfastnn
from pyfastnn import _C, _build_info

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def normalized(requirement: str) -> str:
    """``Ruamel_yaml >= 1`` -> ``ruamel-yaml``."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    entries = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalized(name): version for name, version in entries}


def test_one_version_everywhere() -> None:
    version = PYPROJECT["project"]["version"]
    heading = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == version
    assert pyfastnn.__version__ == version


def test_one_torch_requirement_everywhere() -> None:
    default, with_cuda = (
        re.findall(rf"^{name} \?= (.+)$", MAKEFILE, re.MULTILINE)[0]
        for name in ("TORCH", "TORCH_CUDA")
    )
    for name, wanted in {
        "README.md": {default, with_cuda},
        "setup.py": {default},
        ".ci/run": {default},
    }.items():
        found = re.findall(r"torch==[0-9.]*[0-9]", (ROOT / name).read_text())
        assert set(found) == wanted, name


def test_torch_is_no_build_requirement() -> None:
    assert "torch" not in map(normalized, PYPROJECT["build-system"]["requires"])


def test_constraints_pin_every_tool_exactly_and_leave_torch_free() -> None:
    extras = dict(PYPROJECT["project"]["optional-dependencies"])
    of_docs = extras.pop("docs")
    others = [name for extra in extras.values() for name in extra]
    for file, wanted in {
        "constraints.txt": [*PYPROJECT["build-system"]["requires"], *others],
        "docs/requirements.txt": of_docs,
    }.items():
        pinned = pins(file)
        assert all(re.fullmatch(r"[0-9.]+(post[0-9]+)?", version) for version in pinned.values())
        assert "torch" not in pinned
        assert {normalized(requirement) for requirement in wanted} <= pinned.keys()


def test_the_api_reference_has_every_public_module() -> None:
    modules = [name for name in pyfastnn.__all__ if inspect.ismodule(getattr(pyfastnn, name))]
    documented = re.findall(r"automodule:: (\S+)", (ROOT / "docs" / "api.md").read_text())
    on_demand = ["sklearn"]
    public = sorted(f"pyfastnn.{name}" for name in [*modules, *on_demand])
    assert documented == ["pyfastnn", *public]


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    targets = set(phony[1].split()) - {"FORCE"}
    listed = re.findall(r"^  ([a-z-]+) +\S", run("make", "help").stdout, re.MULTILINE)
    assert set(listed) == targets
    assert {"demo", "test", "bench", "lint", "format", "build", "clean"} <= targets


def test_no_flag_that_breaks_other_processors_or_nan() -> None:
    flags = [
        node.value
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("-")
    ]
    assert "-O3" in flags
    sources = [path.read_text() for path in (ROOT / "csrc").rglob("*") if path.is_file()]
    for text in (*flags, MAKEFILE, *sources):
        assert not re.search(r"-?march=native|fast-math|-?Ofast|unsafe-math", text)


def test_readme_example_runs() -> None:
    example = re.search(r"^```python\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    assert example is not None
    assert len([line for line in example[1].splitlines() if line]) <= 10
    exec(compile(example[1], "README.md", "exec"), {})


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []


def test_build_info_names_the_torch_that_was_compiled_against() -> None:
    assert _build_info.TORCH_VERSION.split("+")[0] == _C.torch_version().split("+")[0]


def test_setup_without_torch_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('planted')")
    result = run(sys.executable, "setup.py", "--version", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "(planted)" in result.stderr
    assert "pip install torch==" in result.stderr
    assert "pip install --no-build-isolation ." in result.stderr


def setup_for_cuda(
    folder: Path,
    nvcc: str,
    torch_cuda: str | None,
    value: str,
    archs: str = "",
    home: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run setup.py where torch says it was built with some CUDA, beside a toolkit of a version."""
    (folder / "sitecustomize.py").write_text(
        f"import torch\ntorch.version.cuda = {torch_cuda!r}\n"
        "from torch.utils import cpp_extension\n"
    )
    devices = "sm_80 sm_86 sm_89 sm_90" + " sm_100 sm_120" * (nvcc >= "12.8")
    for name in ("bin/nvcc", "include/cuda_runtime_api.h"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(f"#!/bin/sh\necho Cuda, release {nvcc}, V\necho {devices}\n")
        (folder / name).chmod(0o755)
    environment = {
        "PYTHONPATH": str(folder),
        "CUDA_HOME": str(home or folder),
        "PYFASTNN_CUDA": value,
        "TORCH_CUDA_ARCH_LIST": archs,
    }
    code = (
        "import runpy, sys; sys.argv = ['setup.py', '--version']\n"
        "print(*runpy.run_path('setup.py')['arch_flags']())"
    )
    return run(sys.executable, "-c", code, **environment)


@pytest.mark.parametrize(
    ("nvcc", "torch_cuda", "message"),
    [
        ("13.0", None, r"torch \S+ is a build without CUDA"),
        ("12.9", "13.0", r"torch was built with CUDA 13.0, but .* is version 12.9"),
    ],
)
def test_setup_that_must_build_for_cuda_says_why_it_cannot(
    tmp_path: Path, nvcc: str, torch_cuda: str | None, message: str
) -> None:
    for value, folder in (("1", tmp_path / "1"), ("auto", tmp_path / "auto")):
        folder.mkdir()
        result = setup_for_cuda(folder, nvcc, torch_cuda, value)
        assert result.returncode == (value == "1"), result.stderr
        assert bool(re.search(f"PYFASTNN_CUDA=1: {message}", result.stderr)) == (value == "1")


@pytest.mark.parametrize(
    ("nvcc", "archs", "code"),
    [
        ("13.3", "", "sm_80,sm_86,sm_89,sm_90,sm_100,sm_120,compute_80"),
        ("13.3", " ; ", "sm_80,sm_86,sm_89,sm_90,sm_100,sm_120,compute_80"),
        ("12.4", "", "sm_80,sm_86,sm_89,sm_90,compute_80"),
        ("12.4", "8.0;9.0+PTX", "sm_80,sm_90,compute_80"),
        ("13.3", "12.0", "sm_120"),
    ],
)
def test_setup_builds_for_cuda_without_a_device(
    tmp_path: Path, nvcc: str, archs: str, code: str
) -> None:
    result = setup_for_cuda(tmp_path, nvcc, nvcc.split(".")[0] + ".0", "1", archs)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == f"-gencode=arch=compute_80,code=[{code}]"


def test_setup_takes_no_other_toolkit_than_the_one_that_is_named(tmp_path: Path) -> None:
    result = setup_for_cuda(tmp_path, "13.0", "13.0", "1", home=tmp_path / "absent")
    assert result.returncode == 1
    assert f"there is no CUDA toolkit (bin/nvcc and include) in {tmp_path}/absent" in result.stderr


def test_setup_refuses_devices_that_the_kernels_are_not_for(tmp_path: Path) -> None:
    result = setup_for_cuda(tmp_path, "13.0", "13.0", "1", archs="7.5;8.0")
    assert result.returncode == 1
    assert "expected 8.0 or higher, as 9.0, got '7.5'" in result.stderr


def test_setup_refuses_other_values() -> None:
    result = run(sys.executable, "setup.py", "--version", PYFASTNN_CUDA="yes")
    assert result.returncode == 1
    assert "PYFASTNN_CUDA: expected auto, 0 or 1, got 'yes'" in result.stderr


@pytest.mark.parametrize("value", ["auto", "0"])
def test_setup_builds_for_the_cpu_by_default(value: str) -> None:
    result = run(sys.executable, "setup.py", "--version", PYFASTNN_CUDA=value)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == PYPROJECT["project"]["version"]
