"""Compiles csrc/cuda once for all test runs: a library for the host, PTX for the interpreter."""

import ctypes
import hashlib
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ptx import find_nvcc, parse
from ptx.program import Kernel

ROOT = Path(__file__).parents[3]
CUDA = ROOT / "csrc" / "cuda"
HERE = Path(__file__).parent
SOURCES = sorted(CUDA.glob("*.cu"))
_CACHE = ROOT / "build" / "cuda"
# Warnings of every compiler are errors.
_FLAGS = ["-std=c++17", "-O3", "-lineinfo", "-Werror=all-warnings", f"-I{ROOT / 'csrc'}"]
_FLAGS += ["-Xcompiler=-fPIC,-O1,-Wall,-Wextra,-Werror"]


def _digest() -> str:
    """Of everything that the compiled files follow from."""
    hashed = hashlib.sha256(" ".join(_FLAGS).encode())
    inputs = sorted(path for folder in (CUDA, HERE) for path in folder.rglob("*.c*"))
    for path in [*inputs, *sorted(CUDA.rglob("*.h"))]:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def run(command: list[str]) -> str:
    """Output of a compiler; its errors raise."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _compile(folder: Path) -> Path:
    nvcc = find_nvcc()
    assert nvcc is not None
    library = folder / "launch.so"
    if library.exists():
        return library
    objects = []
    for source in SOURCES:
        target = folder / f"{source.stem}.o"
        arch = ["-gencode", "arch=compute_80,code=compute_80"]
        keep = ["--keep", "--keep-dir", str(folder)]
        run([nvcc, *_FLAGS, *arch, *keep, "-c", str(source), "-o", str(target)])
        for leftover in folder.glob("*.i*"):
            leftover.unlink()
        objects.append(str(target))
    glue = [str(HERE / "fake_runtime.cpp"), str(HERE / "exports.cpp")]
    partial = folder / "partial.so"
    link = ["-shared", "-cudart=none", "-Xlinker=-Bsymbolic"]
    run([nvcc, *_FLAGS, *link, *glue, *objects, "-o", str(partial)])
    partial.rename(library)
    return library


class Built:
    """What was compiled.

    Attributes:
        library: the host code, with a runtime of ours.
        ptx: of every source, by its stem.
    """

    def __init__(self) -> None:
        self.folder = _CACHE / _digest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.library = ctypes.CDLL(str(_compile(self.folder)))
        self.ptx = {source.stem: self.folder / f"{source.stem}.ptx" for source in SOURCES}
        self._texts = {stem: path.read_text() for stem, path in self.ptx.items()}

    def function(self, name: str, result: type) -> Any:
        """A C function of the library."""
        found = getattr(self.library, name)
        found.restype = result
        return found

    def kernel(self, name: str) -> Mapping[str, Kernel]:
        """The parsed kernels of the file that has this one."""
        for stem, text in self._texts.items():
            if f".entry {name}(" in text:
                return _parsed(self.ptx[stem])
        raise KeyError(name)


@lru_cache
def _parsed(path: Path) -> Mapping[str, Kernel]:
    return parse(path.read_text())


@lru_cache
def built() -> Built:
    """Compile, if the sources are not those of last time, and load."""
    return Built()
