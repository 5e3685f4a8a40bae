"""Floating point with exactly one rounding, in every mode that PTX has.

The way there: compute in float64, find the error of that by error-free transformations, and round
to odd (the last bit says "inexact"). A second rounding to a narrower type is then the only one.
"""

from fractions import Fraction
from typing import Final

import numpy as np

from .faults import unsupported
from .values import Array

MODES: Final = ("rn", "rz", "rm", "rp")
NAN32: Final = np.uint32(0x7FFFFFFF)
_MIN_NORMAL32: Final = 2.0**-126


def is_halfway(values: Array) -> Array:
    """Which float64 may round twice: those halfway between two float32, or subnormal there."""
    bits = values.view(np.uint64)
    halfway = (bits & np.uint64(0x1FFFFFFF)) == np.uint64(0x10000000)
    return np.asarray(halfway | (np.abs(values) < _MIN_NORMAL32))


def _to_odd(values: Array, error: Array) -> Array:
    """Nearest value and its error to the value rounded to odd."""
    bits = values.view(np.int64)
    inexact = np.isfinite(error) & (error != 0) & ((bits & 1) == 0)
    outward = (error > 0) == (values > 0)
    return np.where(inexact, np.where(outward, bits + 1, bits - 1), bits).view(np.float64)


def sum_to_odd(a: Array, b: Array) -> Array:
    """``a + b`` of float64, rounded to odd."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    return _to_odd(total, error)


def narrow(values: Array, mode: str = "rn") -> Array:
    """float64 to float32 in one of the modes, or ``odd``."""
    nearest = values.astype(np.float32)
    if mode == "rn":
        return nearest
    back = nearest.astype(np.float64)
    too_far = {
        "rz": np.abs(back) > np.abs(values),
        "odd": np.abs(back) > np.abs(values),
        "rm": back > values,
        "rp": back < values,
    }[mode]
    towards = {"rz": 0.0, "odd": 0.0, "rm": -np.inf, "rp": np.inf}[mode]
    result = np.where(too_far, np.nextafter(nearest, np.float32(towards)), nearest)
    if mode != "odd":
        return result
    inexact = np.isfinite(values) & (result.astype(np.float64) != values)
    return np.asarray(result.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)


def fma32(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """``a * b + c`` of float32 with one rounding."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact: 24 + 24 bits
    addend = c.astype(np.float64)
    if mode != "rn":
        return narrow(sum_to_odd(product, addend), mode)
    total = product + addend
    doubtful = is_halfway(total)
    if doubtful.any():
        total[doubtful] = sum_to_odd(product[doubtful], addend[doubtful])
    return total.astype(np.float32)


def add32(a: Array, b: Array, mode: str) -> Array:
    """``a + b`` of float32."""
    if mode == "rn":
        return np.asarray(a + b)
    return narrow(sum_to_odd(a.astype(np.float64), b.astype(np.float64)), mode)


def mul32(a: Array, b: Array, mode: str) -> Array:
    """``a * b`` of float32."""
    if mode == "rn":
        return np.asarray(a * b)
    return narrow(a.astype(np.float64) * b.astype(np.float64), mode)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product and its error (Dekker, Veltkamp), away from overflow and underflow."""
    product = a * b
    a_wide, b_wide = a * 134217729.0, b * 134217729.0
    a_high, b_high = a_wide - (a_wide - a), b_wide - (b_wide - b)
    a_low, b_low = a - a_high, b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _fma64_exact(a: float, b: float, c: float) -> float:
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)) or 0.0 in (a, b):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if c == 0 else 0.0
    try:
        return float(exact)
    except OverflowError:
        return float(np.copysign(np.inf, float(exact > 0) - 0.5))


def fma64(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` of float64 with one rounding to nearest (Boldo and Melquiond 2008)."""
    product, low = _two_product(a, b)
    high, rest = _two_sum(c, low)
    total, middle = _two_sum(product, high)
    result = np.asarray(total + sum_to_odd(rest, middle))
    magnitudes = [np.abs(value) for value in (a, b, c, product)]
    plain = np.logical_and.reduce([(m < 2.0**900) & (m > 2.0**-900) for m in magnitudes])
    for lane in np.nonzero(~plain)[0]:
        result[lane] = _fma64_exact(float(a[lane]), float(b[lane]), float(c[lane]))
    return result


def bf16_to_float(bits: Array) -> Array:
    """Bits of bfloat16 to float32, exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float_to_bf16(values: Array, mode: str = "rn") -> Array:
    """float32 to the bits of bfloat16; every NaN becomes 0x7FFF, as on the hardware."""
    bits = values.view(np.uint32)
    if mode == "rn":
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    elif mode == "rz":
        rounded = bits >> np.uint32(16)
    else:
        raise unsupported(f"rounding {mode} to bfloat16")
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def float_to_f16(values: Array, mode: str = "rn") -> Array:
    """float32 or float64 to float16; every NaN becomes 0x7FFF."""
    nearest = values.astype(np.float16)
    if mode == "rz":
        too_far = np.abs(nearest.astype(np.float64)) > np.abs(values.astype(np.float64))
        nearest = np.where(too_far, np.nextafter(nearest, np.float16(0)), nearest)
    elif mode != "rn":
        raise unsupported(f"rounding {mode} to float16")
    bits = np.where(np.isnan(values), np.uint16(0x7FFF), nearest.view(np.uint16))
    return bits.view(np.float16)


def float_to_tf32(values: Array, mode: str) -> Array:
    """float32 to tf32 (10 bits of mantissa, the rest zero), as float32 bits."""
    bits = values.view(np.uint32)
    if mode == "rna":
        rounded = bits + np.uint32(0x1000)
    elif mode == "rn":
        rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    elif mode == "rz":
        rounded = bits
    else:
        raise unsupported(f"rounding {mode} to tf32")
    return np.where(np.isnan(values), NAN32, rounded & np.uint32(0xFFFFE000))


def tf32_of(bits: Array) -> Array:
    """What a tensor core sees of a float32 operand: the lower 13 bits are dropped."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def flush(values: Array) -> Array:
    """``.ftz``: subnormal float32 become zeros of the same sign."""
    tiny = np.abs(values) < np.float32(_MIN_NORMAL32)
    return np.where(tiny, np.copysign(np.float32(0), values), values)


def smaller(a: Array, b: Array) -> Array:
    """``min``: the operand that is a number wins over NaN, and -0 is less than +0."""
    return _pick(np.fmin(a, b), a, b, np.bitwise_or)


def larger(a: Array, b: Array) -> Array:
    """``max``: the operand that is a number wins over NaN, and +0 is more than -0."""
    return _pick(np.fmax(a, b), a, b, np.bitwise_and)


def _pick(result: Array, a: Array, b: Array, join: np.ufunc) -> Array:
    bits = f"u{a.dtype.itemsize}"
    return np.where(a == b, join(a.view(bits), b.view(bits)).view(a.dtype), result)
