"""Between NumPy arrays and tensors, without a copy where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


class _Memory:
    """The memory of an array that must not be written, without the flag that says so.

    ``torch.from_numpy`` warns of such arrays; the tensors made here are only read.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        memory = (array.ctypes.data, False)
        self.__array_interface__ = array.__array_interface__ | {"data": memory}


def float_dtype(*dtypes: npt.DTypeLike) -> type[np.float32] | type[np.float64]:
    """Return float32 where NumPy would compute in it, else float64."""
    return np.float32 if np.result_type(*dtypes) == np.float32 else np.float64


def as_tensor(array: Any, dtype: npt.DTypeLike | None = None) -> Tensor:
    """Return a tensor to read: the memory of a C-contiguous array of that dtype, else a copy."""
    array = np.ascontiguousarray(array, dtype)
    if not array.flags.writeable:
        array = np.asarray(_Memory(array))
    return torch.from_numpy(array)


def csr_tensors(matrix: Any, dtype: npt.DTypeLike) -> tuple[Tensor, Tensor, Tensor]:
    """Return a sparse matrix by rows: where they begin, columns, values."""
    matrix = matrix.tocsr()
    return as_tensor(matrix.indptr), as_tensor(matrix.indices), as_tensor(matrix.data, dtype)


def weight_to_read(coef: Any, dtype: npt.DTypeLike) -> Tensor:
    """Return a weight ``[out, in]`` in the memory of ``coef`` ``[in, out]``, or a copy of it."""
    coef = np.asarray(coef, dtype)
    return as_tensor(coef).t() if coef.flags.c_contiguous else as_tensor(coef.T)


def shared_weight(coef: Any) -> tuple[Tensor, Array]:
    """Return a weight ``[out, in]`` to train, and the ``[in, out]`` array of the same memory.

    The memory lies as ``[in, out]``; it is that of ``coef`` if it does so and may be written.
    """
    own = _trainable(np.asarray(coef))
    return torch.from_numpy(own).t(), own


def shared_bias(intercept: Any) -> tuple[Tensor, Array]:
    """Return a bias ``[out]`` to train, and the array of the same memory."""
    own = _trainable(np.asarray(intercept))
    return torch.from_numpy(own), own


def _trainable(array: Array) -> Array:
    return np.require(array, float_dtype(array.dtype), ["C", "A", "W"])
