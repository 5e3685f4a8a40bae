"""Who may include and import whom, and how long a file may be."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
ENGINE = CSRC / "cpu" / "engine"
SUFFIXES = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh"}


def includes(path: Path, opening: str = '[<"]') -> set[str]:
    pattern = rf'^\s*#\s*include\s*{opening}([^>"]+)[>"]'
    return set(re.findall(pattern, path.read_text(), re.MULTILINE))


def imports(path: Path) -> set[str]:
    """Every module that is named in an import, ``from a import b`` as ``a`` and ``a.b``."""
    found = set()
    for source, names in re.findall(
        r"^\s*(?:from\s+(\S+)\s+)?import\s+(.+)$", path.read_text(), re.MULTILINE
    ):
        for name in re.findall(r"[\w.]+", names.split(" as ")[0]):
            found |= {source, f"{source}.{name}"} if source else {name}
    return found


def is_torch(header: str) -> bool:
    return header.split("/")[0] in {"ATen", "torch", "c10", "pybind11", "Python.h"}


ENGINE_FILES = sorted(path for path in ENGINE.rglob("*") if path.suffix in SUFFIXES)
C_FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in SUFFIXES)


def test_the_files_are_there():
    assert ENGINE_FILES and len(C_FILES) > len(ENGINE_FILES)


@pytest.mark.parametrize("path", ENGINE_FILES, ids=lambda path: path.name)
def test_the_engine_knows_nothing_of_torch_or_of_what_lies_above_it(path):
    assert not {header for header in includes(path) if is_torch(header)}
    for header in includes(path, '"'):
        assert ENGINE in (path.parent / header).resolve().parents, header


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_intrinsics_stay_in_the_isa_folder_and_heavy_headers_stay_out(path):
    found = includes(path)
    assert "torch/extension.h" not in found and "torch/torch.h" not in found
    if path.parent != ENGINE / "isa":
        assert not {header for header in found if header.endswith("intrin.h")}


def test_isa_files_use_no_standard_library():
    # Code of a header that is compiled for one ISA may be linked into all the others.
    shared = [ENGINE / "kernels.h", ENGINE / "training_kernels.h", *(ENGINE / "isa").iterdir()]
    for path in shared:
        assert includes(path, "<") <= {"cstdint", "cstddef", "immintrin.h"}, path
        assert "std::" not in path.read_text(), path


def test_only_the_cpu_folder_and_the_bindings_include_the_cpu_folder():
    for path in C_FILES:
        if (CSRC / "cpu") not in path.parents and path.name != "bindings.cpp":
            assert not {header for header in includes(path) if "cpu/" in header}, path


CUDA = CSRC / "cuda"


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_torch_and_cuda_meet_in_one_file(path):
    found = includes(path)
    of_torch_for_cuda = {header for header in found if header.startswith(("ATen/cuda", "c10/cuda"))}
    assert not of_torch_for_cuda or path == CUDA / "call.h"
    if CUDA not in path.parents:
        assert not {header for header in found if "cuda" in header}
    elif path.suffix != ".cpp" and path != CUDA / "call.h":
        assert not {header for header in found if is_torch(header)}


def test_the_stand_in_for_cuda_needs_no_cuda():
    assert not {header for header in includes(CUDA / "not_built.cpp") if "cuda" in header}
    assert not includes(CUDA / "not_built.cpp", '"')


ALLOWED_IMPORTS = {
    "_sparse_function": {"reference"},
    "_sparse": {"_C", "_sparse_function"},
    "functional": {"_C", "_build_info", "_sharding", "_sparse"},
    "reference": set(),
    "isa": {"_C"},
    "_loading": set(),
    "_batching": {"reference"},
    "_decompositions": {"reference"},
    "_flops": set(),
    "_inductor": set(),
    "_sharding": set(),
    "autograd": {"functional", "reference"},
    "modules": {"_sparse", "functional"},
    "_chains": {"fusion", "modules"},
    "_packed_sparse": {"_C", "_sparse"},
    "packing": {"_C", "_chains", "_packed_sparse", "_sparse"},
    "_step_parts": {"_chains"},
    "_watch": {"_C"},
    "_optimizers": {"_chains", "_watch"},
    "_torch_plan": {"_C"},
    "_processes": {"_step_parts", "_torch_plan"},
    "training": {
        "_C",
        "_optimizers",
        "_processes",
        "_sparse",
        "_step_parts",
        "_torch_plan",
        "_watch",
    },
    "check": {"functional", "reference", "autograd", "isa"},
    "plot/_figure": set(),
    "plot/_images": {"plot._figure"},
    "plot/_curves": {"plot._figure"},
    "plot/_ranking": set(),
    "plot/_classes": {"plot._figure", "plot._ranking"},
    "plot/__init__": {"plot._classes", "plot._curves", "plot._images"},
    "explain/_record": set(),
    "explain/_run": {"explain._record", "fusion._copy"},
    "explain/_updates": {"explain._record"},
    "explain/_weight": {"explain._run"},
    "explain/_warnings": {"explain._trace"},  # for its type alone
    "explain/_table": {"explain._trace"},  # for its types alone
    "explain/_picture": {"explain._trace", "plot._figure"},
    "explain/_trace": {
        "explain._picture",
        "explain._table",
        "explain._warnings",
        "explain._weight",
    },
    "explain/_explain": {
        "explain._record",
        "explain._run",
        "explain._trace",
        "explain._updates",
        "explain._weight",
    },
    "explain/_logger": {"explain._explain", "explain._trace"},
    "explain/__init__": {
        "explain._explain",
        "explain._logger",
        "explain._trace",
        "explain._warnings",
        "explain._weight",
    },
    "fusion/_reads": set(),
    "fusion/_code": {"fusion._reads"},
    "fusion/_proxies": {"fusion._reads"},
    "fusion/_calls": {"fusion._code", "fusion._proxies", "fusion._reads"},
    "fusion/_trace": {"fusion._calls", "fusion._proxies", "fusion._reads"},
    "fusion/_emit": set(),
    "fusion/_chain": {"functional", "modules"},
    "fusion/_rewrite": {"fusion._chain", "fusion._emit", "fusion._reads", "modules"},
    "fusion/_programs": {
        "fusion._chain",
        "fusion._reads",
        "fusion._rewrite",
        "fusion._trace",
    },
    "fusion/_classes": {"fusion._programs", "fusion._trace"},
    "fusion/_copy": set(),
    "fusion/_report": {
        "fusion._chain",
        "fusion._classes",
        "fusion._programs",
        "modules",
    },
    "fusion/__init__": {
        "fusion._chain",
        "fusion._classes",
        "fusion._copy",
        "fusion._report",
        "modules",
    },
    "sklearn/_required": set(),
    "sklearn/_arrays": set(),
    "sklearn/_solver": {"_C", "sklearn._arrays"},
    "sklearn/_epochs": {"_C", "sklearn._arrays", "sklearn._solver"},
    "sklearn/_fitting": {"sklearn._epochs"},
    "sklearn/_estimators": {
        "functional",
        "sklearn._arrays",
        "sklearn._fitting",
        "sklearn._solver",
    },
    "sklearn/__init__": {"sklearn._estimators", "sklearn._required"},
}
PACKAGES = {module.split("/")[0] for module in ALLOWED_IMPORTS if "/" in module}


def test_every_module_of_the_folders_is_in_the_list():
    folders = [ROOT / "pyfastnn" / name for name in PACKAGES]
    found = {
        f"{path.parent.name}/{path.stem}" for folder in folders for path in folder.glob("*.py")
    }
    assert found == {name for name in ALLOWED_IMPORTS if "/" in name}


@pytest.mark.parametrize("module", ALLOWED_IMPORTS)
def test_the_package_imports_in_one_direction(module):
    found = imports(ROOT / "pyfastnn" / f"{module}.py")
    ours = set()
    for name in found:
        top, *inner = name.split(".")
        if top == "pyfastnn" and inner and not (len(inner) == 1 and inner[0] in PACKAGES):
            ours.add(".".join(inner[: 2 if inner[0] in PACKAGES and "/" in module else 1]))
    assert ours <= ALLOWED_IMPORTS[module]
    kept_out = {"tests", "benchmarks"}
    if not module.startswith("sklearn/"):  # the rest of pyfastnn needs torch alone
        kept_out |= {"numpy", "scipy", "sklearn"}
    assert not {name for name in found if name.split(".")[0] in kept_out}


def source_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:  # an unpacked archive without git
        folders = ("csrc", "pyfastnn", "tests", "benchmarks", "examples")
        return [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_no_source_file_is_longer_than_300_lines():
    sources = [path for path in source_files() if path.suffix in SUFFIXES and path.is_file()]
    assert len(sources) > 20
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
