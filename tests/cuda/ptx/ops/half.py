"""Arithmetic of float16 and bfloat16, single and in pairs: exact in float64, then rounded once."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .. import floats
from ..machine import Lanes, Machine
from ..program import Instruction, Operand
from ..values import Array, bits_of
from .registry import operation


def unpack(machine: Machine, operand: Operand, type_name: str, lanes: Lanes) -> Array:
    """Values ``[lanes, 1 or 2]`` as float64, the lower half first."""
    return numbers(machine.read(operand, type_name, lanes), type_name)


def numbers(packed: Array, type_name: str) -> Array:
    """The same of values in registers or memory."""
    halves = np.ascontiguousarray(packed).view(np.uint16).reshape(len(packed), -1)
    if type_name.startswith("bf16"):
        return floats.bf16_to_float(halves).astype(np.float64)
    return halves.view(np.float16).astype(np.float64)


def pack(values: Array, type_name: str) -> Array:
    """The reverse; values are float64, exact or rounded to odd."""
    if type_name.startswith("bf16"):
        halves = floats.float_to_bf16(floats.narrow(values, "odd"))
    else:
        halves = floats.float_to_f16(values).view(np.uint16)
    halves = np.ascontiguousarray(halves)
    return halves.view(np.uint32 if type_name.endswith("x2") else np.uint16).ravel()


def _fma(a: Array, b: Array, c: Array) -> Array:
    return floats.sum_to_odd(a * b, c)


def _tanh(a: Array) -> Any:
    return np.tanh(a)


_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "add": floats.sum_to_odd,
    "sub": lambda a, b: floats.sum_to_odd(a, -b),
    "mul": np.multiply,
    "fma": _fma,
    "min": floats.smaller,
    "max": floats.larger,
    "ex2": np.exp2,
    "tanh": _tanh,
}


@operation(" ".join(_OPERATIONS), "half", family="float", modifiers="rn relu sat NaN approx")
def arithmetic(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Sums, products, extrema; ``.relu`` clamps and keeps NaN, ``.sat`` makes it zero."""
    type_name = instruction.type
    operands = [unpack(machine, o, type_name, lanes) for o in instruction.operands[1:]]
    result = np.asarray(_OPERATIONS[instruction.opcode](*operands))
    if instruction.has("NaN"):
        result = np.where(np.logical_or.reduce([np.isnan(a) for a in operands]), np.nan, result)
    if instruction.has("relu"):
        result = np.where(result < 0, 0.0, result)
    if instruction.has("sat"):
        result = np.where(np.isnan(result), 0.0, np.clip(result, 0.0, 1.0))
    machine.write(instruction.operands[0], pack(result, type_name), lanes)


@operation("neg abs", "half", family="float")
def sign(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Change of the sign bits."""
    bits = bits_of(machine.read(instruction.operands[1], instruction.type, lanes))
    halves = bits.view(np.uint16)
    changed = halves ^ 0x8000 if instruction.opcode == "neg" else halves & 0x7FFF
    machine.write(instruction.operands[0], changed.astype(np.uint16).view(bits.dtype), lanes)
