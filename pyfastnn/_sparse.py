"""Sparse input of a first linear layer: what is accepted, and the layer.

A torch CSR tensor and a SciPy CSR matrix or array are the same three vectors; nothing is copied and
nothing is made dense.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pyfastnn import _C
from pyfastnn._sparse_function import SparseLinearFunction


class CsrMatrix(Protocol):
    """What is read of a CSR matrix or array of SciPy."""

    format: str
    indptr: Any
    indices: Any
    data: Any
    shape: tuple[int, ...]
    dtype: Any


class SparseRows(NamedTuple):
    """A sparse matrix by rows."""

    crow: Tensor  # [rows + 1]: where in col and values a row begins
    col: Tensor
    values: Tensor
    columns: int


def is_sparse(x: object) -> bool:
    """Say whether ``x`` is a sparse tensor or a sparse matrix of SciPy, of whatever format."""
    return _C.is_sparse(x) or is_of_scipy(x)


def is_of_scipy(x: object) -> bool:
    """Say whether ``x`` is a sparse matrix or array of SciPy."""
    if isinstance(x, Tensor):
        return False
    scipy_sparse = sys.modules.get("scipy.sparse")  # who has a matrix of it has imported it
    return scipy_sparse is not None and bool(scipy_sparse.issparse(x))


def sparse_rows(who: str, name: str, x: Any) -> SparseRows:
    """Read a sparse matrix.

    Args:
        who: whose name messages start with.
        name: the argument.
        x: something for which :func:`is_sparse` holds.

    Raises:
        RuntimeError: if it is not stored by rows, or has other than two dimensions.
    """
    if is_of_scipy(x):
        if x.format != "csr":
            raise RuntimeError(
                f"{who}: expected a sparse {name} in CSR format, got {x.format}: use .tocsr()"
            )
        _check_two_dimensions(who, name, x.shape)
        crow, col, values = (_from_numpy(array) for array in (x.indptr, x.indices, x.data))
        return SparseRows(crow, col, values, x.shape[1])
    if x.layout != torch.sparse_csr:
        raise RuntimeError(
            f"{who}: expected a sparse {name} in CSR format, got layout {x.layout}: "
            "use .to_sparse_csr()"
        )
    _check_two_dimensions(who, name, x.shape)
    return SparseRows(x.crow_indices(), x.col_indices(), x.values(), x.shape[1])


def train_input(who: str, name: str, x: Any) -> _C.TrainInput:
    """Read the same for a training plan."""
    return _C.TrainInput(*sparse_rows(who, name, x))


def _check_two_dimensions(who: str, name: str, shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise RuntimeError(
            f"{who}: expected a sparse {name} of two dimensions, got shape {tuple(shape)}"
        )


def _from_numpy(array: Any) -> Tensor:
    # torch warns of arrays that must not be written, for example of a memory map.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def sparse_layer(
    who: str, input: Tensor | CsrMatrix, weight: Tensor, bias: Tensor | None, relu: bool
) -> Tensor:
    """Apply one layer to a sparse input, ``[M, K] -> [M, N]``."""
    rows = sparse_rows(who, "input", input)
    # Dynamo, if it is there, cannot look at vectors that are views of a sparse tensor.
    apply = _apply_unseen() if "torch._dynamo" in sys.modules else SparseLinearFunction.apply
    return apply(*rows, weight, bias, relu)


@cache
def _apply_unseen() -> Callable[..., Tensor]:
    apply = SparseLinearFunction.apply
    return torch.compiler.disable(apply)  # type: ignore[no-any-return, no-untyped-call]


def sparse_mlp(
    who: str,
    input: Tensor | CsrMatrix,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool,
) -> Tensor:
    """Apply a network to a sparse input: the first layer by itself, the others as one operator."""
    if not weights or len(weights) != len(biases):
        raise RuntimeError(
            f"{who}: expected one bias (a tensor or None) for each of one or more weights, got "
            f"{len(weights)} weights and {len(biases)} biases"
        )
    relu = activate_last or len(weights) > 1
    hidden = sparse_layer(who, input, weights[0], biases[0], relu)
    if len(weights) == 1:
        return hidden
    output: Tensor = torch.ops.pyfastnn.mlp(hidden, weights[1:], biases[1:], activate_last)
    return output
