"""Compiles the host side of the CUDA operators for the CPU; see host.cpp."""

import os
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session", autouse=True)
def host() -> None:
    """Load the operators of torch.ops.pyfastnn; pyfastnn itself would register them twice."""
    os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]  # ninja
    folder = ROOT / "build" / f"cuda-host-torch-{torch.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    cpp_extension.load(
        name="pyfastnn_cuda_host",
        sources=[str(HERE / "host.cpp")],
        extra_include_paths=[str(HERE / "shim"), str(HERE), str(ROOT / "csrc")],
        extra_cflags=["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"],
        build_directory=str(folder),
        with_cuda=False,
        is_python_module=False,
    )
