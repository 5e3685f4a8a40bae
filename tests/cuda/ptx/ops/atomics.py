"""Atomic operations: read, change, write in one step, lane after lane in order."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .. import floats
from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction
from ..values import DTYPES, Array, kind_of, size_of
from . import half
from .memory import load_bytes, space_of
from .registry import operation

Update = Callable[..., Any]


def _increment(old: Array, top: Array) -> Array:
    return np.where(old >= top, 0, old + old.dtype.type(1))


def _decrement(old: Array, top: Array) -> Array:
    return np.where((old == 0) | (old > top), top, old - old.dtype.type(1))


_UPDATES: Final[dict[str, Update]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
    "cas": lambda old, expected, new: np.where(old == expected, new, old),
    "inc": _increment,
    "dec": _decrement,
}


def _update_of(instruction: Instruction) -> Update:
    """What becomes of the old value."""
    name = instruction.first_of(*_UPDATES)
    type_name = instruction.type
    if not name or (kind_of(type_name) in {"half", "float"} and name not in {"add", "exch"}):
        raise unsupported(f"atomic {name} of {type_name}")
    if kind_of(type_name) == "half" and name == "add":
        return lambda old, new: half.pack(
            floats.sum_to_odd(half.numbers(old, type_name), half.numbers(new, type_name)), type_name
        )
    return _UPDATES[name]


@operation(
    "atom red",
    family="atomic",
    modifiers=f"{' '.join(_UPDATES)} shared shared::cta global noftz relaxed acquire release "
    "acq_rel gpu cta sys",
)
def atomic(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``atom`` gives the old value back, ``red`` does not."""
    returns = instruction.opcode == "atom"
    place, *sources = instruction.operands[returns:]
    update, dtype = _update_of(instruction), DTYPES[instruction.type]
    values = [machine.read(source, instruction.type, lanes) for source in sources]
    addresses = machine.address(place, lanes)
    space, width = space_of(instruction), size_of(instruction.type)
    load_bytes(machine, space, addresses, width, lanes, "atomic")  # checks and counts
    old = np.empty(len(lanes), dtype)
    for part in machine.spaces.parts(space, addresses, width, lanes.threads):
        rows = np.arange(len(lanes))[part.rows]
        for position, row in zip(part.positions, rows, strict=True):
            where = np.array([position])
            before = part.region.load(where, width).view(dtype)[0]
            after = np.asarray(update(before, *(value[row : row + 1] for value in values)))
            old[row] = before[0]
            if after.dtype.itemsize != width:
                after = after.astype(dtype)
            part.region.store(where, np.ascontiguousarray(after).view(np.uint8).reshape(1, width))
    if returns:
        machine.write(instruction.operands[0], old, lanes)
