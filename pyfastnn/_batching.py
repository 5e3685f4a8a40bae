"""How ``torch.vmap`` runs the operators, registered with the dispatcher on import.

Where only the input is batched, the new dimension is one more leading dimension: one fused call.
Where parameters are batched too (ensembles), or gradients are, every member has matrices of its
own, and the definitions of :mod:`pyfastnn.reference` run on ``[members, rows, features]`` as
batched matmuls.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyfastnn import reference

_ops = torch.ops.pyfastnn


def _is_batched(in_dims: Any) -> bool:
    return any(dim is not None for dim in pytree.tree_leaves(in_dims))


def _members(tensor: Tensor, dim: int | None) -> Tensor:
    """Bring the batch dimension to the front; size 1 if there is none."""
    return tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)


def _member_rows(tensor: Tensor, dim: int | None) -> Tensor:
    """Return ``[members or 1, rows, features]``."""
    tensor = _members(tensor, dim)
    return tensor.unsqueeze(1) if tensor.dim() == 2 else tensor.flatten(1, -2)


def _forward(
    info: Any,
    in_dims: Any,
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool,
) -> list[Tensor]:
    leading = _members(input, in_dims[0]).shape[1:-1]
    layer_input = _member_rows(input, in_dims[0])
    outputs: list[Tensor] = []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        layer_input = layer_input @ _members(weight, in_dims[1][layer]).mT
        if bias is not None:
            layer_input = layer_input + _members(bias, in_dims[2][layer]).unsqueeze(1)
        if activate_last or layer + 1 < len(weights):
            layer_input = torch.relu(layer_input)
        every = layer_input.expand(info.batch_size, -1, -1)
        outputs.append(every.reshape(info.batch_size, *leading, -1))
    return outputs


def _linear_relu(
    info: Any, in_dims: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, int]:
    if not _is_batched(in_dims[1:]):
        return _ops.linear_relu(_members(input, in_dims[0]), weight, bias), 0
    input_dim, weight_dim, bias_dim = (*in_dims, None)[:3]  # a default argument is not passed on
    layer_dims = input_dim, [weight_dim], [bias_dim]
    return _forward(info, layer_dims, input, [weight], [bias], True)[0], 0


def _mlp(
    info: Any,
    in_dims: Any,
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool = False,
) -> tuple[Tensor, int]:
    if not _is_batched(in_dims[1:]):
        return _ops.mlp(_members(input, in_dims[0]), weights, biases, activate_last), 0
    return _forward(info, in_dims, input, weights, biases, activate_last)[-1], 0


def _mlp_forward(
    info: Any,
    in_dims: Any,
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool,
) -> tuple[list[Tensor], int]:
    if not _is_batched(in_dims[1:]):
        return _ops.mlp_forward(_members(input, in_dims[0]), weights, biases, activate_last), 0
    return _forward(info, in_dims, input, weights, biases, activate_last), 0


def _mlp_backward(
    info: Any,
    in_dims: Any,
    grad_output: Tensor,
    input: Tensor,
    weights: Sequence[Tensor],
    outputs: Sequence[Tensor],
    activate_last: bool,
    needs_grad: Sequence[bool],
) -> tuple[list[Tensor], int]:
    grad_dim, input_dim, weight_dims, output_dims = in_dims[:4]
    inputs = [_member_rows(input, input_dim), *map(_member_rows, outputs, output_dims)]
    grad_z = _member_rows(grad_output, grad_dim)
    if activate_last:
        grad_z = reference.drelu(grad_z, inputs[-1])
    grads: list[Tensor] = []  # from the last to the first
    for layer in reversed(range(len(weights))):
        if needs_grad[2 + 2 * layer]:
            grads.append(grad_z.sum(1))
        if needs_grad[1 + 2 * layer]:
            grads.append(grad_z.mT @ inputs[layer])
        grad_input = grad_z @ _members(weights[layer], weight_dims[layer])
        if layer > 0:
            grad_z = reference.drelu(grad_input, inputs[layer])
    if needs_grad[0]:
        shape = _members(input, input_dim).shape[1:]
        grads.append(grad_input.expand(info.batch_size, -1, -1).reshape(-1, *shape))
    return [grad.expand(info.batch_size, *grad.shape[1:]) for grad in grads[::-1]], 0


_rules: dict[str, Callable[..., Any]] = {
    "linear_relu": _linear_relu,
    "mlp": _mlp,
    "mlp_forward": _mlp_forward,
    "mlp_backward": _mlp_backward,
}
for _name, _rule in _rules.items():
    torch.library.register_vmap(f"pyfastnn::{_name}", _rule)

# torch.autograd.grad(..., is_grads_batched=True) has a vmap of its own, which knows only dispatcher
# keys: there the definition runs on its batched tensors.
_legacy_vmap = torch.library.Library("pyfastnn", "IMPL", "Batched")  # type: ignore[no-untyped-call]
_legacy_vmap.impl("mlp_backward", reference.mlp_backward)  # type: ignore[no-untyped-call]
