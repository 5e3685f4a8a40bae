"""What ``torch.utils.flop_counter.FlopCounterMode`` counts: as much as for the plain network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size
from torch.utils.flop_counter import register_flop_formula

_ops = torch.ops.pyfastnn


def _product(input: Size, weight: Size) -> int:
    """Multiplications and additions of ``[M, K] @ [K, N]``, or of one of its two gradients."""
    return 2 * input[:-1].numel() * weight.numel()


@register_flop_formula(_ops.linear_relu)
def _linear_relu(input: Size, weight: Size, bias: Size | None = None, **unused: Any) -> int:
    return _product(input, weight)


@register_flop_formula([_ops.mlp, _ops.mlp_forward])
def _mlp(input: Size, weights: Sequence[Size], *unused: Any, **unused_too: Any) -> int:
    return sum(_product(input, weight) for weight in weights)


@register_flop_formula(_ops.mlp_backward)
def _mlp_backward(
    grad_output: Size,
    input: Size,
    weights: Sequence[Size],
    outputs: Sequence[Size],
    activate_last: bool,
    needs_grad: Sequence[bool],
    **unused: Any,
) -> int:
    total = 0
    for layer, weight in enumerate(weights):
        has_wgrad = needs_grad[1 + 2 * layer]
        has_dgrad = any(needs_grad[: 1 + 2 * layer])  # for the input or for a layer below
        total += (has_wgrad + has_dgrad) * _product(input, weight)
    return total
