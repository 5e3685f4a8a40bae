"""What ptxas makes of csrc/cuda for real architectures: registers, spills, machine code.

It gets the PTX that the interpreter executes: in a build, too, all code comes from one PTX.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ptx import find_nvcc

from .build import ROOT, built, run

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
# Readers of machine code; not part of every toolkit. They read what older compilers wrote.
TOOLS = ["nvidia-cuda-cuobjdump==13.2.86", "nvidia-cuda-nvdisasm==13.2.86"]
_TOOLS_FOLDER = ROOT / "build" / "cuda-tools"


@dataclass(frozen=True)
class Usage:
    """Figures of ptxas for a kernel."""

    registers: int
    spilled: int
    stack: int
    shared: int


@lru_cache
def compiled(architecture: int) -> dict[str, Path]:
    """Machine code of every source, by stem; a warning of ptxas raises."""
    found = {}
    for stem, text in built().ptx.items():
        target = text.with_suffix(f".sm_{architecture}.cubin")
        if not target.exists():
            command = [_ptxas(), f"--gpu-name=sm_{architecture}", "-v", "--warning-as-error", "-O3"]
            log = run([*command, str(text), "-o", str(target)])
            target.with_suffix(".log").write_text(log)
        found[stem] = target
    return found


def _ptxas() -> str:
    """The one that nvcc would call."""
    nvcc = find_nvcc()
    assert nvcc is not None
    listed = run([nvcc, "--dryrun", "-x", "cu", "/dev/null", "-cubin", "-o", "/dev/null"])
    found = re.search(r"_HERE_=(\S+)", listed)
    assert found, listed
    return f"{found[1]}/ptxas"


@lru_cache
def usage(architecture: int) -> dict[str, Usage]:
    """Figures of every kernel, by mangled name."""
    found = {}
    for cubin in compiled(architecture).values():
        log = cubin.with_suffix(".log").read_text()
        pattern = (
            r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
            r"(\d+) bytes spill loads\n.*?Used (\d+) registers([^\n]*)"
        )
        for name, stack, stores, loads, registers, rest in re.findall(pattern, log, re.DOTALL):
            shared = re.search(r"(\d+) bytes smem", rest)
            found[name] = Usage(
                int(registers),
                int(stores) + int(loads),
                int(stack),
                int(shared[1]) if shared else 0,
            )
    return found


@lru_cache
def short_name(mangled: str) -> str:
    """As in the source: ``chain_mma<Bf16, 128, fprop>``."""
    name = run(["c++filt", mangled]).strip().removeprefix("void ")
    replaced = {
        "(pyfastnn::cuda::Pass)0": "fprop",
        "(pyfastnn::cuda::Pass)1": "dgrad",
        "PlainFloat<float> ": "F32",
        "PlainFloat<double> ": "F64",
        "unsigned short": "16 bits",
    }
    for long, short in replaced.items():
        name = name.replace(long, short)
    name = name.replace("pyfastnn::cuda::", "")
    name = re.sub(r"\(.*", "", name)
    return name.strip()


def readers() -> Path | None:
    """A folder with cuobjdump and nvdisasm; None where they can't be had."""
    folder = _TOOLS_FOLDER / "nvidia" / "cu13" / "bin"
    if not (folder / "cuobjdump").exists():
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        command += ["--no-deps", "--target", str(_TOOLS_FOLDER), *TOOLS]
        subprocess.run(command, check=False, capture_output=True)
    return folder if (folder / "cuobjdump").exists() else None


def machine_code(cubin: Path) -> dict[str, str]:
    """SASS of every kernel in a file, by mangled name."""
    folder = readers()
    assert folder is not None
    text = run(
        ["env", f"PATH={folder}:/usr/bin:/bin", str(folder / "cuobjdump"), "-sass", str(cubin)]
    )
    parts = re.split(r"Function : (\w+)", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
