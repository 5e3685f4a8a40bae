"""Importing a package that cannot work says why, and how to rebuild it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pyfastnn

REBUILD = "pip install --no-build-isolation"
# The finder of an editable install would answer for the modules that the copy lacks.
IMPORT = """
import sys
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
import pyfastnn
print(pyfastnn.__file__)
"""
MINOR = ".".join(torch.__version__.split(".")[:2])


def import_copy(folder: Path, built_against: str | None) -> subprocess.CompletedProcess[str]:
    """Import a copy of the package whose build says that it was made for another torch."""
    package = Path(pyfastnn.__file__).parent
    shutil.copytree(package, folder / "pyfastnn", ignore=shutil.ignore_patterns("*.so", "_build*"))
    if built_against is not None:
        info = f"TORCH_VERSION = {built_against!r}\nCUDA_ARCHS = ''\n"
        (folder / "pyfastnn" / "_build_info.py").write_text(info)
        for library in package.glob("_C*.so"):
            shutil.copy(library, folder / "pyfastnn")
    return subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_package_without_a_build(tmp_path):
    result = import_copy(tmp_path, built_against=None)
    assert result.returncode != 0
    message = result.stderr.splitlines()[-1]
    assert "ImportError: pyfastnn: the C++ extension is not built" in message
    assert REBUILD in message


@pytest.mark.parametrize("version", ["2.12.1", "3.13.0+cu130"])
def test_a_build_for_another_minor_version(tmp_path, version):
    result = import_copy(tmp_path, built_against=version)
    assert result.returncode != 0
    message = result.stderr.splitlines()[-1]
    assert f"was built against torch {version}, but torch {torch.__version__} is" in message
    assert REBUILD in message


@pytest.mark.parametrize("version", [f"{MINOR}.9", f"{MINOR}.0+cu130"])
def test_a_build_for_another_patch_version_is_accepted(tmp_path, version):
    result = import_copy(tmp_path, built_against=version)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path) in result.stdout
