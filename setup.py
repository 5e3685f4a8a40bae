"""Builds the C++ extension ``pyfastnn._C``; everything that is only data stands in pyproject.toml.

Environment variables:
    MAX_JOBS           compilers at the same time (ninja's default is the number of cores).
    DEBUG              1: no optimisation, with debug symbols.
    PYFASTNN_SANITIZE  list for -fsanitize=, e.g. ``address,undefined``.
    PYFASTNN_CUDA      auto (default), 0 or 1. This version has no CUDA sources: 1 is an error.
"""

import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import setup

ROOT = Path(__file__).resolve().parent


def import_cpp_extension() -> ModuleType:
    """Import torch's build helper, or stop with the commands that make it importable.

    The extension must be compiled against the torch it will run with, so torch is no build
    requirement: an isolated build would fetch another one. Such a build hides the packages of the
    environment it installs into, therefore those folders are tried as well.
    """
    try:
        from torch.utils import cpp_extension
    except ImportError:
        sys.path += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        try:
            from torch.utils import cpp_extension
        except ImportError as error:
            raise SystemExit(
                f"pyfastnn is compiled against the installed torch, which cannot be imported "
                f"({error}). Run:\n"
                f"    pip install torch==2.13.0 'setuptools>=77' ninja\n"
                f"    pip install --no-build-isolation ."
            ) from None
    return cpp_extension


def flag(name: str) -> bool:
    """Read an environment variable that is 0 or 1; unset and empty mean 0."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"{name}: expected 0 or 1, got {value!r}")
    return value == "1"


def check_cuda_request() -> None:
    """Refuse a build that was asked for CUDA kernels: there are none yet."""
    value = os.environ.get("PYFASTNN_CUDA", "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"PYFASTNN_CUDA: expected auto, 0 or 1, got {value!r}")
    if value == "1":
        raise SystemExit(
            "PYFASTNN_CUDA=1: this version of pyfastnn has no CUDA kernels; "
            "unset it, or use PYFASTNN_CUDA=0, to build for the CPU"
        )


cpp_extension = import_cpp_extension()
import torch  # noqa: E402  importable only after import_cpp_extension

# ninja lies beside this interpreter, which need not be on PATH in a venv that is not activated.
os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")


class BuildExtension(cpp_extension.BuildExtension):
    """Keeps object files between builds of every kind, and records what was built against."""

    def finalize_options(self) -> None:
        """Choose the object folder: pip would take a fresh one and recompile everything."""
        super().finalize_options()
        tag = f"{sys.implementation.cache_tag}-torch-{torch.__version__}"
        self.build_temp = str(ROOT / "build" / tag)

    def run(self) -> None:
        """Build, then write ``_build_info.py`` beside the extension."""
        super().run()
        package = ROOT / "pyfastnn" if self.inplace else Path(self.build_lib) / "pyfastnn"
        (package / "_build_info.py").write_text(
            '"""Written by setup.py: what the extension was built against."""\n\n'
            f'TORCH_VERSION = "{torch.__version__}"\n'
            "CUDA = False\n",
            encoding="utf-8",
        )


def cpu_extension() -> object:
    """Describe ``pyfastnn._C``: every C++ file under csrc, one set of flags.

    No -march: each ISA file opens its own target region, so one binary runs everywhere. No
    -ffast-math: NaN and inf must travel as in torch.
    """
    compile_args = ["-std=c++20", "-fopenmp", "-fvisibility=hidden"]
    # GCC 12 finds "uninitialized" variables in its own AVX-512 headers (GCC bug 105593).
    compile_args += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    link_args = ["-fopenmp"]
    compile_args += ["-O0", "-g"] if flag("DEBUG") else ["-O3", "-g0"]
    if sanitizers := os.environ.get("PYFASTNN_SANITIZE", ""):
        compile_args += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer"]
        link_args += [f"-fsanitize={sanitizers}"]
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.cpp"))
    return cpp_extension.CppExtension(
        "pyfastnn._C",
        [source.as_posix() for source in sources],
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


check_cuda_request()
major, minor = torch.__version__.split(".")[:2]
setup(
    ext_modules=[cpu_extension()],
    cmdclass={"build_ext": BuildExtension},
    # torch's C++ interface changes with every minor version: the wheel asks for the one it has.
    install_requires=[f"torch=={major}.{minor}.*"],
)
