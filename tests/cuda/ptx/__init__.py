"""A PTX interpreter on numpy: runs what nvcc emitted, and says what is wrong with it.

``README.md`` beside this file shows how to use it and how to read its faults and its counts.
"""

from .compiler import NOT_RUN, compile_ptx, find_nvcc
from .faults import Fault, FaultKind
from .launch import Checks, run
from .memory import GlobalMemory
from .parse import parse
from .report import Loop, Report

__all__ = [
    "NOT_RUN",
    "Checks",
    "Fault",
    "FaultKind",
    "GlobalMemory",
    "Loop",
    "Report",
    "compile_ptx",
    "find_nvcc",
    "parse",
    "run",
]
