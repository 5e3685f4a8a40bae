"""nvcc: find it, and compile CUDA source to PTX."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

NOT_RUN = "nvcc not found: CUDA kernels NOT RUN"


@lru_cache
def find_nvcc() -> str | None:
    """nvcc, or None: ``$NVCC`` and no other if it is set, else where CUDA is installed.

    That is ``$CUDA_HOME`` or ``$CUDA_PATH``, the PATH, ``/usr/local/cuda``.
    """
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    candidates = [f"{home}/bin/nvcc" for home in homes if home]
    candidates += [shutil.which("nvcc") or "", "/usr/local/cuda/bin/nvcc"]
    if "NVCC" in os.environ:
        candidates = [os.environ["NVCC"]]
    return next((path for path in candidates if path and Path(path).is_file()), None)


def compile_ptx(
    source: Path,
    *,
    arch: str = "compute_80",
    defines: Sequence[str] = (),
    include: Sequence[Path] = (),
    flags: Sequence[str] = (),
) -> str:
    """PTX of a CUDA source file, compiled with optimisation and line numbers.

    Args:
        source: a ``.cu`` file.
        arch: virtual architecture.
        defines: macros, ``NAME`` or ``NAME=VALUE``; nvcc would split values at commas.
        include: folders.
        flags: anything else.

    Raises:
        RuntimeError: no nvcc, or it reports errors (the message has them).
        ValueError: a comma in a macro.
    """
    if any("," in define for define in defines):
        raise ValueError(f"a comma in one of the macros {list(defines)}")
    return _compile(
        source.resolve(), arch, tuple(defines), tuple(path.resolve() for path in include),
        tuple(flags),
    )  # fmt: skip


@lru_cache
def _compile(
    source: Path,
    arch: str,
    defines: tuple[str, ...],
    include: tuple[Path, ...],
    flags: tuple[str, ...],
) -> str:
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError(NOT_RUN)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.ptx"
        command = [nvcc, "-std=c++17", "-O3", "-lineinfo", f"-arch={arch}", "-ptx"]
        command += [f"-D{name}" for name in defines] + [f"-I{path}" for path in include]
        done = subprocess.run(
            [*command, *flags, str(source), "-o", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"nvcc {source.name}: {done.stderr}")
        return target.read_text()
