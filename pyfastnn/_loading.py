"""Refuse to load a compiled module that cannot work, and say how to rebuild it.

torch's C++ interface changes with every minor version. A module built against another one fails
with a mangled undefined symbol at best, so the version written down by the build is compared first.
"""

import importlib

import torch

_REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps ."


def check_build() -> None:
    """Check that the extension was built, and against the running torch.

    Raises:
        ImportError: if there is no build, or it was made for another minor version of torch.
    """
    try:
        built_against: str = importlib.import_module("pyfastnn._build_info").TORCH_VERSION
    except ModuleNotFoundError as error:
        raise ImportError(
            f"pyfastnn: the C++ extension is not built; in the source folder run: {_REBUILD}"
        ) from error
    check_torch_version(built_against, str(torch.__version__))


def check_torch_version(built_against: str, running: str) -> None:
    """Compare major.minor of two torch versions such as ``"2.13.0+cpu"``.

    Raises:
        ImportError: if they differ.
    """
    if built_against.split(".")[:2] != running.split(".")[:2]:
        raise ImportError(
            f"pyfastnn was built against torch {built_against}, but torch {running} is running; "
            f"in the source folder run: {_REBUILD}"
        )
