"""Arithmetic of float32 and float64."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .. import floats
from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction, Operand
from ..values import Array
from .registry import operation

_ROUNDING: Final = "rn rz rm rp ftz"


def sources(
    machine: Machine, instruction: Instruction, lanes: Lanes, operands: tuple[Operand, ...]
) -> list[Array]:
    """Operands as floats, subnormals flushed under ``.ftz``."""
    values = [machine.read(operand, instruction.type, lanes) for operand in operands]
    return [floats.flush(value) for value in values] if instruction.has("ftz") else values


def finish(machine: Machine, instruction: Instruction, lanes: Lanes, result: Array) -> None:
    """Apply ``.ftz`` and ``.sat`` and write the result."""
    if instruction.has("ftz"):
        result = floats.flush(result)
    if instruction.has("sat"):
        zero, one = result.dtype.type(0), result.dtype.type(1)
        result = np.where(np.isnan(result), zero, np.clip(result, zero, one))
    machine.write(instruction.operands[0], result, lanes)


def rounding(instruction: Instruction) -> str:
    """The mode; only float32 has others than ``rn`` here."""
    mode = instruction.first_of(*floats.MODES) or "rn"
    if mode != "rn" and instruction.type != "f32":
        raise unsupported(f"rounding {mode} of {instruction.type}")
    return mode


@operation("add sub mul", "float", family="float", modifiers=f"{_ROUNDING} sat")
def arithmetic(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Sum, difference, product."""
    a, b = sources(machine, instruction, lanes, instruction.operands[1:])
    mode = rounding(instruction)
    if instruction.opcode == "sub":
        b = -b
    compute = floats.mul32 if instruction.opcode == "mul" else floats.add32
    finish(machine, instruction, lanes, compute(a, b, mode))


@operation("fma mad", "float", family="float", modifiers=f"{_ROUNDING} sat")
def fused(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``a * b + c``, rounded once."""
    a, b, c = sources(machine, instruction, lanes, instruction.operands[1:])
    mode = rounding(instruction)
    if instruction.type == "f64":
        result = floats.fma64(a, b, c)
    else:
        result = floats.fma32(a, b, c, mode)
    finish(machine, instruction, lanes, result)


@operation("div", "float", family="float", modifiers="rn approx full ftz")
def divide(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Quotient; the approximate forms are rounded correctly too."""
    a, b = sources(machine, instruction, lanes, instruction.operands[1:])
    finish(machine, instruction, lanes, a / b)


@operation("min max", "float", family="float", modifiers="ftz NaN")
def extremum(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """The number wins over NaN, unless ``.NaN``."""
    a, b, *rest = sources(machine, instruction, lanes, instruction.operands[1:])
    if rest:
        raise unsupported("three operands")
    result = (floats.smaller if instruction.opcode == "min" else floats.larger)(a, b)
    nothing = np.isnan(a) | np.isnan(b) if instruction.has("NaN") else np.isnan(result)
    if nothing.any():
        nan = np.array(floats.NAN32).view(np.float32) if a.dtype == np.float32 else np.nan
        result = np.where(nothing, nan, result).astype(a.dtype)
    finish(machine, instruction, lanes, result)


@operation("neg abs", "float", family="float", modifiers="ftz")
def sign(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Change of the sign bit."""
    (a,) = sources(machine, instruction, lanes, instruction.operands[1:])
    finish(machine, instruction, lanes, -a if instruction.opcode == "neg" else np.abs(a))


@operation("copysign", "float", family="float")
def copy_sign(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """The second operand with the sign of the first."""
    a, b = sources(machine, instruction, lanes, instruction.operands[1:])
    machine.write(instruction.operands[0], np.copysign(b, a), lanes)


_FUNCTIONS: Final[dict[str, Callable[[Array], Any]]] = {
    "rcp": lambda x: 1.0 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@operation(" ".join(_FUNCTIONS), "float", family="float", modifiers="rn approx ftz")
def function(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Computed in float64 and rounded once: the approximate forms differ from the hardware's."""
    (a,) = sources(machine, instruction, lanes, instruction.operands[1:])
    result = np.asarray(_FUNCTIONS[instruction.opcode](a.astype(np.float64)))
    finish(machine, instruction, lanes, result.astype(a.dtype))
