"""nvcc, and what happens where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import ptx
import pytest

HERE = Path(__file__).parent


def test_without_nvcc_the_kernels_are_counted_as_not_run():
    command = [sys.executable, "-m", "pytest", "-rs", "--confcutdir=.", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "test_planted_bugs.py"],
        cwd=HERE,
        env=os.environ | {"NVCC": "/nonexistent/nvcc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "nvcc not found: CUDA kernels NOT RUN" in done.stdout
    assert " passed" not in done.stdout and " skipped in " in done.stdout


def test_errors_of_the_compiler_are_shown(nvcc, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void kernel() { undeclared(); }")
    with pytest.raises(RuntimeError, match=r'identifier "undeclared" is undefined'):
        ptx.compile_ptx(source)


def test_macros_and_folders_reach_the_compiler(nvcc, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "name.cuh").write_text('#define KERNEL extern "C" __global__ void NAME')
    source = tmp_path / "right.cu"
    source.write_text("#include <name.cuh>\nKERNEL() {}")
    text = ptx.compile_ptx(source, defines=["NAME=some"], include=[tmp_path / "folder"])
    assert list(ptx.parse(text)) == ["some"]
    with pytest.raises(ValueError, match="comma"):
        ptx.compile_ptx(source, defines=["NAME=a,b"])
