"""How much memory this process holds and has held, as Linux counts it."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s*(\d+) kB$", text, re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])


def _give_back_freed_memory() -> None:
    # glibc keeps freed memory for later; other C libraries lack the function.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Resident memory in use now."""
    _give_back_freed_memory()
    return _status("VmRSS")


def reset_peak() -> None:
    """Let `peak_bytes` start again from what is resident now."""
    _give_back_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def peak_bytes() -> int:
    """Most resident memory since `reset_peak`."""
    return _status("VmHWM")
