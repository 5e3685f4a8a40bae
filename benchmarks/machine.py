"""What the measurements ran on: processor, caches, cores to pin to, commit, C compiler."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


class MachineError(RuntimeError):
    """This machine lacks something a benchmark needs."""


def cpu_model() -> str:
    """Processor name with family and model, which tell generations apart on virtual machines."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    fields = {key.strip(): value.strip() for key, value in re.findall(r"(.+?):(.*)", text)}
    name = fields.get("model name", platform.machine())
    if "cpu family" not in fields:
        return name
    return f"{name} (family {fields['cpu family']} model {fields['model']})"


def cpu_flags() -> set[str]:
    """Instruction sets the processor reports; empty where the system does not say."""
    try:
        match = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(match[1].split()) if match else set()


def last_level_cache_bytes(core: int) -> int:
    """Size of the largest cache that `core` can use, 0 where the system does not say.

    Other cores use it too, and on a virtual machine other machines: a share of it is what one gets.
    """
    folders = Path(f"/sys/devices/system/cpu/cpu{core}/cache").glob("index*")
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [(folder / "size").read_text().strip() for folder in folders]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes), default=0)


def pick_cores(threads: int) -> list[int]:
    """Cores to pin every provider to: the first ones allowed, one per physical core.

    Raises:
        MachineError: if this process may use fewer physical cores than `threads`.
    """
    chosen: dict[str, int] = {}
    for core in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        chosen.setdefault(siblings.read_text() if siblings.exists() else str(core), core)
    if len(chosen) < threads:
        raise MachineError(
            f"threads: expected at most {len(chosen)} on this machine, got {threads}"
        )
    return list(chosen.values())[:threads]


def commit() -> str:
    """Short hash of the checked out commit, ``+`` when files differ from it, or ``unknown``."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(HERE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def compile_here(source: str, output: Path, *flags: str) -> Path:
    """Compile a C or C++ file of this folder with gcc or g++ (or ``CC`` / ``CXX``).

    Returns:
        `output`.

    Raises:
        MachineError: if there is no compiler or it fails; the message carries what it printed.
    """
    variable, default = ("CC", "gcc") if source.endswith(".c") else ("CXX", "g++")
    compiler = os.environ.get(variable, default)
    if shutil.which(compiler) is None:
        raise MachineError(f"{source}: expected a compiler {compiler!r} on the PATH, found none")
    command = [compiler, *flags, str(HERE / source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"{source}: {compiler} failed:\n{done.stderr}")
    return output
