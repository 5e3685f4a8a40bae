"""Reads a user's model and loss for TrainStep, or says which part is not supported."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyfastnn._chains import HOOKS, chain_of, class_name, global_hooks


class Bound(NamedTuple):
    """The tensors that C++ knows (weight 0, bias 0, weight 1, ...) and what was read with them.

    ``dicts`` hold everything a model is made of: while they have the same contents, reading it
    again would give the same.
    """

    tensors: list[Tensor | None]
    relu: list[bool]
    flatten: bool
    dicts: list[dict[Any, Any]]


def bind(model: nn.Module) -> Bound:
    """Read a model, see :func:`chain_of`, and the tensors it has now.

    Raises:
        ValueError: if two layers share a parameter.
    """
    chain = chain_of(model, "TrainStep", ignores=lambda _: False)
    tensors: list[Tensor | None] = []
    for linear in chain.linears:
        tensors += [linear._parameters["weight"], linear._parameters["bias"]]
    own = [id(tensor) for tensor in tensors if tensor is not None]
    if len(set(own)) < len(own):
        raise ValueError("TrainStep: expected every layer to have parameters of its own")
    dicts = list(global_hooks())
    for module in model.modules():
        own_dicts = [module.__dict__[name] for name in ("_modules", "_parameters", *HOOKS)]
        dicts += [module.__dict__, *own_dicts]
    return Bound(tensors, chain.relu, chain.flatten, dicts)


def hooks_of(tensors: list[Tensor]) -> list[dict[Any, Any]]:
    """Return the dicts in which hooks of tensors are kept, where there are any."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    hooks = [getattr(tensor, name, None) for tensor in tensors for name in names]
    return [entry for entry in hooks if entry is not None]


def checked_norm(value: float | None) -> float | None:
    """Return ``max_grad_norm`` as a float, or raise ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"TrainStep: expected max_grad_norm to be a number, got {value!r}")
    if not value > 0:
        raise ValueError(f"TrainStep: expected max_grad_norm to be positive, got {value!r}")
    return float(value)


def checked_batch_size(value: int) -> int:
    """Return the number of rows of a batch, or raise ValueError."""
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if isinstance(value, bool) or not 1 <= size < 2**62:
        raise ValueError(
            f"TrainStep.run_epoch: expected batch_size to be a positive integer, got {value!r}"
        )
    return size


def computes_in_bfloat16(compute_dtype: torch.dtype | None, dtype: torch.dtype) -> bool:
    """Read the option ``compute_dtype`` for parameters of ``dtype``, or raise ValueError."""
    if compute_dtype is None or compute_dtype == dtype:
        return False
    if compute_dtype != torch.bfloat16 or dtype != torch.float32:
        raise ValueError(
            f"TrainStep: expected compute_dtype to be the parameters' dtype, or torch.bfloat16 "
            f"for float32 parameters, got {compute_dtype} for {dtype}"
        )
    return True


def is_lazy(sparse_update: str) -> bool:
    """Read the option ``sparse_update``, or raise ValueError."""
    if sparse_update not in ("exact", "lazy"):
        raise ValueError(
            f"TrainStep: expected sparse_update to be 'exact' or 'lazy', got {sparse_update!r}"
        )
    return sparse_update == "lazy"


class LossDescription(NamedTuple):
    """A loss module as C++ knows it."""

    kind: str
    mean: bool
    label_smoothing: float
    ignore_index: int


_LOSSES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.MSELoss: "mse",
    nn.BCEWithLogitsLoss: "bce_with_logits",
}


def describe_loss(loss_fn: nn.Module) -> LossDescription:
    """Read a loss module.

    Raises:
        TypeError: if it is not one of the supported ones.
        ValueError: if it has an option that is not supported.
    """
    kind = _LOSSES.get(type(loss_fn))
    if kind is None:
        names = ", ".join(loss.__name__ for loss in _LOSSES)
        raise TypeError(
            f"TrainStep: expected loss_fn to be one of {names}, got {class_name(loss_fn)}"
        )
    loss: Any = loss_fn
    for option in ("weight", "pos_weight"):
        if getattr(loss, option, None) is not None:
            raise ValueError(f"TrainStep: {class_name(loss)} with {option} is not supported")
    if loss.reduction not in ("mean", "sum"):
        raise ValueError(
            f"TrainStep: expected reduction 'mean' or 'sum' of {class_name(loss)}, "
            f"got {loss.reduction!r}"
        )
    if any(loss.__dict__[hooks] for hooks in HOOKS):
        raise TypeError(f"TrainStep: {class_name(loss)} has a hook, which would not run")
    smoothing = float(getattr(loss, "label_smoothing", 0.0))
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"TrainStep: expected label_smoothing of {class_name(loss)} from 0 to 1, "
            f"got {smoothing!r}"
        )
    return LossDescription(
        kind, loss.reduction == "mean", smoothing, int(getattr(loss, "ignore_index", -100))
    )
