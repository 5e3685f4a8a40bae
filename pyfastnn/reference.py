"""Plain PyTorch definitions of what is right, and how far a rounded result may be from them.

Slow and obvious on purpose: tests, ``python -m pyfastnn check`` and the benchmarks compare the
kernels with these functions. Letters: M rows (all leading dimensions multiplied), K in_features,
N out_features; dZ is the gradient of the sum before the ReLU.

==========  ==============================  =======================
pass        formula                         sum over
==========  ==============================  =======================
fprop       ``Y = relu(X W^T + b)``         K
dgrad       ``dX = dZ W``                   N
wgrad       ``dW = dZ^T X``                 M
bgrad       ``db = sum of the rows of dZ``  M
==========  ==============================  =======================
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def fprop(input: Tensor, weight: Tensor, bias: Tensor | None, activate: bool = True) -> Tensor:
    """Compute one layer, ``[*, K] -> [*, N]``; without the ReLU if not ``activate``."""
    z = torch.nn.functional.linear(input, weight, bias)
    return torch.relu(z) if activate else z


def drelu(grad_output: Tensor, output: Tensor) -> Tensor:
    """Return dZ: the gradient where ``not (output <= 0)``, else 0; so NaN outputs let it pass."""
    return grad_output.masked_fill(output <= 0, 0)


def dgrad(grad_z: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input, ``[*, N] -> [*, K]``."""
    return grad_z @ weight


def wgrad(grad_z: Tensor, input: Tensor) -> Tensor:
    """Return the gradient of the weight, ``[N, K]``."""
    return _rows(grad_z).T @ _rows(input)


def bgrad(grad_z: Tensor) -> Tensor:
    """Return the gradient of the bias, ``[N]``."""
    return _rows(grad_z).sum(0)


def mlp_forward(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activate_last: bool
) -> list[Tensor]:
    """Return the outputs of all layers; the last one is the output of the network."""
    outputs: list[Tensor] = []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        last = layer == len(weights) - 1
        input = fprop(input, weight, bias, activate=activate_last or not last)
        outputs.append(input)
    return outputs


def mlp_backward(
    grad_output: Tensor,
    input: Tensor,
    weights: Sequence[Tensor],
    outputs: Sequence[Tensor],
    activate_last: bool,
    needs_grad: Sequence[bool],
) -> list[Tensor]:
    """Return the gradients asked for, in the order input, weight 0, bias 0, weight 1, ...

    Args:
        grad_output: shape ``[*, N_L]``.
        input: shape ``[*, N_0]``.
        weights: L tensors ``[N_{l+1}, N_l]``.
        outputs: outputs of the layers that have a ReLU: L if ``activate_last``, else L - 1.
        activate_last: whether the last layer has a ReLU.
        needs_grad: ``1 + 2 * L`` booleans.
    """
    inputs = [input, *outputs][: len(weights)]
    grads: list[Tensor] = []  # from the last to the first
    grad_z = drelu(grad_output, outputs[-1]) if activate_last else grad_output
    for layer in reversed(range(len(weights))):
        if needs_grad[2 + 2 * layer]:
            grads.append(bgrad(grad_z))
        if needs_grad[1 + 2 * layer]:
            grads.append(wgrad(grad_z, inputs[layer]))
        if layer > 0:
            grad_z = drelu(dgrad(grad_z, weights[layer]), outputs[layer - 1])
    if needs_grad[0]:
        grads.append(dgrad(grad_z, weights[0]))
    return grads[::-1]


class Bounded(NamedTuple):
    """A float64 value and the largest error that a kernel may make, element by element."""

    value: Tensor
    bound: Tensor


def bounded_fprop(
    input: Tensor, weight: Tensor, bias: Tensor | None, activate: bool = True
) -> Bounded:
    """Compute one layer in float64 with the bound ``2 * K * eps * (|X| |W|^T + |b|)``.

    ``eps`` is that of the type that sums: float32 for bfloat16 and float16. Those two may round
    once more at the end, by half a unit in the last place of the result.
    """
    x, w = input.double(), weight.double()
    b = None if bias is None else bias.double()
    size = fprop(x.abs(), w.abs(), None if b is None else b.abs(), activate=False)
    value = fprop(x, w, b, activate)
    return _with_rounding(value, 2 * w.shape[1] * _sum_eps(input.dtype) * size, input.dtype)


def bounded_mlp_backward(
    grad_output: Tensor,
    input: Tensor,
    weights: Sequence[Tensor],
    outputs: Sequence[Tensor],
    activate_last: bool,
) -> list[Bounded]:
    """Compute all gradients in float64 with their bounds, ordered as by :func:`mlp_backward`.

    The masks come from ``outputs``, so pass those of the kernel: a sum within rounding of 0 may
    have either sign. Every sum of n terms may add ``2 * n * eps`` of its absolute terms to what
    its terms are already wrong by.
    """
    dtype = input.dtype
    eps = _sum_eps(dtype)
    inputs = [tensor.double() for tensor in [input, *outputs][: len(weights)]]
    rows = _rows(input).shape[0]
    grads: list[Bounded] = []
    grad_z = grad_output.double()
    if activate_last:
        grad_z = drelu(grad_z, outputs[-1])
    error = torch.zeros_like(grad_z)
    for layer in reversed(range(len(weights))):
        weight = weights[layer].double()
        terms = grad_z.abs() + error
        per_row = error + 2 * rows * eps * terms  # summed over M below
        grads.append(_with_rounding(bgrad(grad_z), bgrad(per_row), dtype))
        bound = wgrad(per_row, inputs[layer].abs())
        grads.append(_with_rounding(wgrad(grad_z, inputs[layer]), bound, dtype))
        bound = dgrad(error + 2 * weight.shape[0] * eps * terms, weight.abs())
        grad_z, error = _with_rounding(dgrad(grad_z, weight), bound, dtype)
        if layer > 0:
            grad_z = drelu(grad_z, outputs[layer - 1])
            error = drelu(error, outputs[layer - 1])
    return [Bounded(grad_z, error), *grads[::-1]]


def _rows(tensor: Tensor) -> Tensor:
    if tensor.dim() == 2:
        return tensor
    # Not flatten: the vmap of torch.autograd.grad(..., is_grads_batched=True) does not know it.
    return tensor.reshape(tensor.shape[:-1].numel(), tensor.shape[-1])


def _sum_eps(dtype: torch.dtype) -> float:
    return min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _with_rounding(value: Tensor, bound: Tensor, dtype: torch.dtype) -> Bounded:
    """Add the last rounding of bfloat16 and float16; float32 and float64 have none left."""
    if dtype in (torch.bfloat16, torch.float16):
        info = torch.finfo(dtype)
        smallest = info.smallest_normal * info.eps / 2  # half the spacing near zero
        bound = bound + info.eps / 2 * (value.abs() + bound) + smallest
    return Bounded(value, bound)
