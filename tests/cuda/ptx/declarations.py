"""Text of variables and parameters to data."""

import re
import struct

from . import operands
from .faults import unsupported
from .program import Parameter, Variable
from .values import size_of

VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(shared|global|const|local|param)\s+"
    r"(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(\[(\d*)\])?\s*(?:=\s*(.+))?",
    re.DOTALL,
)
_POINTER = re.compile(r"\.ptr\b(\s+\.(global|const|shared|local))?(\s+\.align\s+\d+)?")


def parameters(text: str) -> list[Parameter]:
    """Parameters of a kernel or function, separated by commas."""
    found = []
    for part in operands.split(text):
        match = VARIABLE.fullmatch(" ".join(_POINTER.sub("", part).split()))
        if match is None:
            raise unsupported(f"parameter {part!r}")
        _, align, type_name, name, array, count, _ = match.groups()
        size = size_of(type_name) * (int(count) if array else 1)
        found.append(
            Parameter(name, type_name, size, int(align or size_of(type_name)), bool(array))
        )
    return found


def module_variables(text: str) -> dict[str, Variable]:
    """Variables that are declared outside of functions."""
    found = {}
    for statement in text.split(";"):
        match = VARIABLE.search(statement)
        if match:
            one = variable(match)
            found[one.name] = one
    return found


def variable(match: re.Match[str]) -> Variable:
    """A variable of its match."""
    space, align, type_name, name, array, count, initial = match.groups()
    item = size_of(type_name)
    size = item * (int(count) if count else 0 if array else 1)
    data = _initial(initial, type_name, size) if space in {"global", "const"} else None
    return Variable(name, space, size, int(align or item), data)


def _initial(text: str | None, type_name: str, size: int) -> bytes | None:
    """Bytes of ``{1, 2, 3}``, padded with zeros; None where the values are addresses."""
    values = [operands.number(part) for part in operands.split((text or "").strip(" \n\t{}"))]
    if any(value is None for value in values):
        return None
    item = size_of(type_name)
    parts = []
    for value in values:
        if isinstance(value, float):
            parts.append(struct.pack("<f" if item == 4 else "<d", value))
        elif value is not None:
            parts.append((value & ((1 << 8 * item) - 1)).to_bytes(item, "little"))
    return b"".join(parts).ljust(size, b"\0")
