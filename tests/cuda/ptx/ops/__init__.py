"""What instructions do, one file per family; importing this package fills the table."""

from . import (
    atomics,
    collectives,
    compare,
    convert,
    copies,
    floating,
    half,
    integer,
    matrix,
    memory,
    moves,
)
from .registry import Operation, find

__all__ = [
    "Operation",
    "atomics",
    "collectives",
    "compare",
    "convert",
    "copies",
    "find",
    "floating",
    "half",
    "integer",
    "matrix",
    "memory",
    "moves",
]
