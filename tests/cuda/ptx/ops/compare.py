"""Comparisons and selections of all types."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction, Pair
from ..values import DTYPES, Array
from . import half
from .floating import sources
from .registry import operation

_ORDERED: Final[dict[str, Callable[[Array, Array], Any]]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_UNORDERED: Final = {f"{name}u": name for name in ("eq", "ne", "lt", "le", "gt", "ge")}
_COMPARISONS: Final = " ".join([*_ORDERED, *_UNORDERED, "num", "nan"])


def compare(name: str, a: Array, b: Array) -> Array:
    """A comparison of PTX; for floats those without ``u`` are false where an operand is NaN."""
    if a.dtype.kind != "f":
        return np.asarray(_ORDERED[name](a, b))
    unordered = np.isnan(a) | np.isnan(b)
    if name in {"num", "nan"}:
        return np.asarray(unordered if name == "nan" else ~unordered)
    if name in _UNORDERED:
        return np.asarray(_ORDERED[_UNORDERED[name]](a, b) | unordered)
    return np.asarray(_ORDERED[name](a, b) & ~unordered)


@operation("setp", "int float", family="predicate", modifiers=f"{_COMPARISONS} and or xor ftz")
def set_predicate(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``p = a ? b``, joined with another predicate; ``p|q`` gives the opposite too."""
    a, b = sources(machine, instruction, lanes, instruction.operands[1:3])
    _write_predicates(
        machine, instruction, lanes, compare(instruction.first_of(*_COMPARISONS.split()), a, b)
    )


def _write_predicates(
    machine: Machine, instruction: Instruction, lanes: Lanes, result: Array
) -> None:
    """Join the result of a comparison with another predicate and write it, and the opposite."""
    opposite = ~result
    join = instruction.first_of("and", "or", "xor")
    if join:
        other = machine.read(instruction.operands[3], "pred", lanes)
        ufunc = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[join]
        result, opposite = ufunc(result, other), ufunc(opposite, other)
    target = instruction.operands[0]
    if isinstance(target, Pair):
        machine.write(target.second, opposite, lanes)
        target = target.first
    machine.write(target, result, lanes)


@operation("setp", "half", family="predicate", modifiers=f"{_COMPARISONS} and or xor")
def set_predicate_of_halves(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``p = a ? b``; for pairs ``p|q`` are the results of the lower and of the upper half."""
    result = _compare_halves(machine, instruction, lanes)
    if not instruction.type.endswith("x2"):
        _write_predicates(machine, instruction, lanes, result[:, 0])
        return
    target = instruction.operands[0]
    if len(instruction.operands) > 3 or not isinstance(target, Pair):
        raise unsupported("a comparison of pairs with one or three predicates")
    machine.write(target.first, result[:, 0], lanes)
    machine.write(target.second, result[:, 1], lanes)


def _compare_halves(machine: Machine, instruction: Instruction, lanes: Lanes) -> Array:
    a, b = (half.unpack(machine, o, instruction.type, lanes) for o in instruction.operands[1:3])
    return compare(instruction.first_of(*_COMPARISONS.split()), a, b)


@operation("set", "half float int", family="predicate", modifiers=f"{_COMPARISONS} ftz")
def set_value(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """1.0 where the comparison holds, in integers all ones; else 0. Pairs give a pair."""
    target_type, source_type = instruction.types
    if source_type in {"f16", "bf16", "f16x2", "bf16x2"}:
        result = _compare_halves(machine, instruction, lanes)
    else:
        a, b = sources(machine, instruction, lanes, instruction.operands[1:3])
        result = compare(instruction.first_of(*_COMPARISONS.split()), a, b)[:, None]
    if target_type in {"f16", "bf16", "f16x2", "bf16x2"}:
        machine.write(instruction.operands[0], half.pack(result.astype("f8"), target_type), lanes)
    elif target_type == "f32":
        machine.write(instruction.operands[0], result[:, 0].astype(np.float32), lanes)
    else:
        width = DTYPES[target_type].itemsize // result.shape[1]
        parts = np.ascontiguousarray(-result.astype(f"i{width}"))
        machine.write(instruction.operands[0], parts.view(DTYPES[target_type]).ravel(), lanes)


@operation("selp", family="move")
def select(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``p ? a : b``."""
    target, first, second, choice = instruction.operands
    a, b = (machine.read(operand, instruction.type, lanes) for operand in (first, second))
    machine.write(target, np.where(machine.read(choice, "pred", lanes), a, b), lanes)


@operation("slct", family="move", modifiers="ftz")
def select_by_sign(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``c >= 0 ? a : b``."""
    target, first, second, choice = instruction.operands
    a, b = (machine.read(operand, instruction.types[0], lanes) for operand in (first, second))
    machine.write(target, np.where(machine.read(choice, instruction.type, lanes) >= 0, a, b), lanes)


_PROPERTIES: Final = "finite infinite number notanumber normal subnormal"


@operation(
    "testp",
    "float",
    family="predicate",
    modifiers=_PROPERTIES,
)
def test_property(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """What sort of number it is."""
    a = machine.read(instruction.operands[1], instruction.type, lanes)
    tiny = np.abs(a) < np.finfo(a.dtype).tiny
    result = {
        "finite": np.isfinite(a),
        "infinite": np.isinf(a),
        "number": ~np.isnan(a),
        "notanumber": np.isnan(a),
        "normal": np.isfinite(a) & ~tiny,
        "subnormal": tiny & (a != 0),
    }[instruction.modifiers[0]]
    machine.write(instruction.operands[0], result, lanes)
