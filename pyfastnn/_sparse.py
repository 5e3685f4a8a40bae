"""Sparse input of a first linear layer: what is accepted, the call of the operator, its derivative.

A torch CSR tensor and a SciPy CSR matrix or array are the same three vectors; nothing is copied and
nothing is made dense.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pyfastnn import _C, reference

_sparse_linear = torch.ops.pyfastnn.sparse_linear.default
_sparse_linear_backward = torch.ops.pyfastnn.sparse_linear_backward.default


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
    return _C.is_sparse(x) or (not isinstance(x, Tensor) and _is_of_scipy(x))


def _is_of_scipy(x: object) -> bool:
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
    if _is_of_scipy(x):
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
    output: Tensor = _sparse_linear(*sparse_rows(who, "input", input), weight, bias, relu)
    return output


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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    crow, col, values, _, weight, _, relu = inputs
    ctx.save_for_backward(crow, col, values, weight, output if relu else None)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    needs_grad = [ctx.needs_input_grad[place] for place in (2, 4, 5)]
    run = _plain_backward if torch.is_grad_enabled() else _sparse_linear_backward
    crow, col, values, weight, output = ctx.saved_tensors
    grads = iter(run(grad_output, crow, col, values, weight, output, needs_grad))
    of_values, of_weight, of_bias = (next(grads) if needed else None for needed in needs_grad)
    return None, None, of_values, None, of_weight, of_bias, None


def _plain_backward(
    grad_output: Tensor,
    crow: Tensor,
    col: Tensor,
    values: Tensor,
    weight: Tensor,
    output: Tensor | None,
    needs_grad: Sequence[bool],
) -> list[Tensor]:
    """Compute the same in differentiable PyTorch operations, for derivatives of derivatives."""
    grad_z = grad_output if output is None else reference.drelu(grad_output, output)
    of_entry = grad_z.repeat_interleave(crow.diff(), 0)
    grads = []
    if needs_grad[0]:
        grads.append((of_entry * weight.t()[col]).sum(1))
    if needs_grad[1]:
        zero = torch.zeros_like(weight.t())
        grads.append(zero.index_add(0, col, values.unsqueeze(1) * of_entry).t())
    if needs_grad[2]:
        grads.append(grad_z.sum(0))
    return grads


torch.library.register_autograd("pyfastnn::sparse_linear", _backward, setup_context=_setup_context)
