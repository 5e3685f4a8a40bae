"""``cvt`` between all types, with every rounding and clamping that has a use here."""

from typing import Any, Final

import numpy as np

from .. import floats
from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction, Operand
from ..values import DTYPES, Array, kind_of
from .registry import operation

_TO_INTEGER: Final = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_MODIFIERS: Final = "rn rz rm rp rna rni rzi rmi rpi ftz sat relu satfinite"


@operation("cvt", family="convert", modifiers=_MODIFIERS)
def convert(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``cvt.dst.src``; two operands make a pair, the first one the upper half."""
    target, source = instruction.types
    first, *rest = instruction.operands[1:]
    if target.endswith("x2"):
        upper = _to_half(machine, instruction, first, lanes)
        lower = _to_half(machine, instruction, rest[0], lanes)
        pair = upper.astype(np.uint32) << np.uint32(16) | lower
        machine.write(instruction.operands[0], pair, lanes)
        return
    if target in {"f16", "bf16"} and kind_of(source) == "float":
        result = _to_half(machine, instruction, first, lanes)
        machine.write(instruction.operands[0], result, lanes)
        return
    values = machine.read(first, source, lanes)
    if kind_of(source) == "half":
        values = _widen(values, source)
        source = "f32"
    if kind_of(target) == "half" and kind_of(source) != "int":
        raise unsupported(f"conversion from {instruction.types[1]} to {target}")
    if instruction.has("ftz") and source == "f32":
        values = floats.flush(values)
    if kind_of(target) == "int":
        result = _to_int(instruction, values, target)
    else:
        result = _to_float(instruction, values, target)
    machine.write(instruction.operands[0], result, lanes)


def _widen(values: Array, source: str) -> Array:
    return floats.bf16_to_float(values) if source == "bf16" else values.astype(np.float32)


def _to_half(machine: Machine, instruction: Instruction, operand: Operand, lanes: Lanes) -> Array:
    """Bits of float16 or bfloat16 of a float32 (float16 also of a float64)."""
    values = machine.read(operand, instruction.types[1], lanes)
    if instruction.has("relu"):
        values = np.where(values < 0, values.dtype.type(0), values)
    mode = instruction.first_of(*floats.MODES) or "rn"
    if instruction.has("satfinite") or instruction.has("sat"):
        raise unsupported("saturating conversion to 16-bit floats")
    if instruction.types[0].startswith("bf16"):
        if values.dtype != np.float32:
            values = floats.narrow(values, "odd")
        return floats.float_to_bf16(values, mode)
    return floats.float_to_f16(values, mode).view(np.uint16)


def _to_int(instruction: Instruction, values: Array, target: str) -> Array:
    dtype = DTYPES[target]
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        if instruction.has("sat"):
            return _clamp_integers(values, dtype)
        return values.astype(dtype)
    mode = instruction.first_of(*_TO_INTEGER)
    if not mode:
        raise unsupported("conversion of a float to an integer without a rounding")
    rounded = np.asarray(_TO_INTEGER[mode](values.astype(np.float64)))
    # float64 cannot hold the largest 64-bit integers: clamp by comparison, convert the rest.
    above = rounded >= float(limits.max)
    below = rounded <= float(limits.min)
    inside = np.where(above | below | np.isnan(rounded), 0.0, rounded).astype(dtype)
    result = np.where(below, dtype.type(limits.min), inside)
    result = np.where(above, dtype.type(limits.max), result)
    if dtype.itemsize == 8:
        nothing = dtype.type(limits.min) if dtype.kind == "i" else dtype.type(1 << 63)
        result = np.where(np.isnan(rounded), nothing, result)
    return result.astype(dtype)


def _clamp_integers(values: Array, dtype: np.dtype[Any]) -> Array:
    limits, own = np.iinfo(dtype), np.iinfo(values.dtype)
    low, high = max(int(limits.min), int(own.min)), min(int(limits.max), int(own.max))
    return np.clip(values, values.dtype.type(low), values.dtype.type(high)).astype(dtype)


def _to_float(instruction: Instruction, values: Array, target: str) -> Array:
    mode = instruction.first_of(*floats.MODES) or "rn"
    if target == "tf32":
        return floats.float_to_tf32(values, "rna" if instruction.has("rna") else mode)
    if kind_of(target) == "half":
        return _integer_to_half(values, target, mode)
    to_integral = instruction.first_of(*_TO_INTEGER)
    if to_integral:
        values = np.asarray(_TO_INTEGER[to_integral](values))
    dtype = DTYPES[target]
    if mode == "rn" or dtype.itemsize > values.dtype.itemsize:
        result = values.astype(dtype)
    elif dtype == np.float32 and values.dtype.itemsize <= 8 and values.dtype.kind == "f":
        result = floats.narrow(values, mode)
    elif dtype == np.float32 and values.dtype.itemsize == 4:
        result = floats.narrow(values.astype(np.float64), mode)
    else:
        raise unsupported(f"rounding {mode} from {instruction.types[1]} to {target}")
    if instruction.has("sat"):
        zero, one = dtype.type(0), dtype.type(1)
        result = np.where(np.isnan(result), zero, np.clip(result, zero, one))
    return floats.flush(result) if instruction.has("ftz") and target == "f32" else result


def _integer_to_half(values: Array, target: str, mode: str) -> Array:
    if mode != "rn" or values.dtype.itemsize == 8:
        raise unsupported(f"rounding {mode} of an integer to {target}")
    wide = values.astype(np.float64)
    if target == "bf16":
        return floats.float_to_bf16(floats.narrow(wide, "odd"))
    return floats.float_to_f16(wide).view(np.uint16)
