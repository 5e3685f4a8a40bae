"""Element types: float64 values to what a device holds, and back."""

import math
import mmap
from typing import NamedTuple

import numpy as np
from ptx.floats import bf16_to_float, float_to_bf16


class DType(NamedTuple):
    """A type by its number in plan.h; eps of the type and of its sums."""

    name: str
    code: int
    storage: type
    eps: float
    sum_eps: float
    tiny: float


DTYPES = {
    "float32": DType("float32", 0, np.float32, 2.0**-23, 2.0**-23, 0.0),
    "float64": DType("float64", 1, np.float64, 2.0**-52, 2.0**-52, 0.0),
    "bfloat16": DType("bfloat16", 2, np.uint16, 2.0**-7, 2.0**-23, 2.0**-134),
    "float16": DType("float16", 3, np.float16, 2.0**-10, 2.0**-23, 2.0**-25),
}


def to_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded to the type, as a new contiguous array."""
    if dtype == "bfloat16":
        return np.ascontiguousarray(float_to_bf16(np.asarray(values, np.float32)))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.asarray(values).astype(DTYPES[dtype].storage))


def from_bits(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Values in float64."""
    if dtype == "bfloat16":
        return np.asarray(bf16_to_float(bits), np.float64)
    return bits.astype(np.float64)


def untouched(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros that takes memory only where it is touched, however large it is."""
    storage = np.dtype(DTYPES[dtype].storage)
    no_reserve = 0x4000  # MAP_NORESERVE of Linux, which mmap names from Python 3.13 on
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    pages = mmap.mmap(-1, math.prod(shape) * storage.itemsize, flags=flags)
    return np.frombuffer(pages, storage).reshape(shape)


def poison(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of NaN for results, so that what nobody writes is seen."""
    return to_bits(np.full(shape, np.nan), dtype)
