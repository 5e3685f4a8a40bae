"""Types of PTX values and the numpy dtypes that hold them.

A register holds bits. An instruction says how to read them: ``.f32`` as numpy float32, ``.f16`` as
numpy float16, ``.bf16`` and packed pairs as plain bits, because numpy knows no such numbers.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WARP: Final = 32

_BYTES: Final = {"u8": "u1", "s8": "i1", "b8": "u1", "u16": "u2", "s16": "i2", "b16": "u2"}
_WORDS: Final = {"u32": "u4", "s32": "i4", "b32": "u4", "u64": "u8", "s64": "i8", "b64": "u8"}
_FLOATS: Final = {"f16": "f2", "bf16": "u2", "f32": "f4", "f64": "f8", "tf32": "u4"}
_PAIRS: Final = {"f16x2": "u4", "bf16x2": "u4"}

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {**_BYTES, **_WORDS, **_FLOATS, **_PAIRS, "pred": "?"}.items()
}

UNSIGNED: Final[dict[int, np.dtype[Any]]] = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def kind_of(type_name: str) -> str:
    """The family of a type: ``int``, ``float``, ``half`` (16-bit floats and pairs) or ``pred``."""
    if type_name == "pred":
        return "pred"
    if type_name in {"f16", "bf16", "f16x2", "bf16x2"}:
        return "half"
    return "float" if type_name in {"f32", "f64", "tf32"} else "int"


def size_of(type_name: str) -> int:
    """Bytes of a value of the type."""
    return int(DTYPES[type_name].itemsize)


def bits_of(values: Array) -> Array:
    """The same bits as unsigned integers (a view where numpy allows one)."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    return values.view(UNSIGNED[values.dtype.itemsize])


def constant(value: int | float, dtype: np.dtype[Any], count: int) -> Array:
    """An immediate operand for ``count`` lanes: integers wrap to the width of the type.

    A float immediate that an instruction reads as bits (``mov.b32 %r1, 0f3F800000``) keeps the bits
    it has in a float of that width.
    """
    if isinstance(value, float):
        if dtype.kind == "f":
            return np.full(count, value, dtype)
        as_float = np.array([value], f"f{dtype.itemsize}").view(dtype)
        return np.full(count, as_float[0], dtype)
    if dtype.kind == "f" and dtype.itemsize > 2:
        return np.full(count, float(value), dtype)
    if dtype == np.bool_:
        return np.full(count, value != 0)
    wrapped = value & ((1 << (8 * dtype.itemsize)) - 1)
    return np.full(count, wrapped, UNSIGNED[dtype.itemsize]).view(dtype)
