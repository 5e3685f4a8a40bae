"""Refuse to load a compiled module that cannot work, and say how to rebuild it.

torch's C++ interface changes with every minor version. A module built against another one fails
with a mangled undefined symbol at best, so the version written down by the build is compared first.
"""

import importlib
import importlib.util

import torch

_REBUILD = (
    "in the source folder run: pip install --no-build-isolation --force-reinstall --no-deps ."
)


def check_build() -> None:
    """Check that the extension was built, and against the running torch.

    Raises:
        ImportError: if there is no build, or it was made for another minor version of torch.
    """
    built = all(importlib.util.find_spec(f"pyfastnn.{name}") for name in ("_C", "_build_info"))
    if not built:
        raise ImportError(f"pyfastnn: the C++ extension is not built; {_REBUILD}")
    built_against: str = importlib.import_module("pyfastnn._build_info").TORCH_VERSION
    running = str(torch.__version__)
    if built_against.split(".")[:2] != running.split(".")[:2]:
        raise ImportError(
            f"pyfastnn was built against torch {built_against}, but torch {running} is running; "
            f"{_REBUILD}"
        )
