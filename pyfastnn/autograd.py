"""The operators as ``torch.autograd.Function`` classes, for code that is built around those.

``pyfastnn.functional`` does the same with less overhead and compiles under ``torch.compile``, where
every ``Function`` that defines ``jvp`` breaks the graph, unless it was passed to
``torch.compiler.allow_in_graph``. Both classes support derivatives of any order, forward-mode AD
and the transforms of ``torch.func``. The first derivative runs the fused kernels; where the
derivative itself is differentiated, it is written in differentiable PyTorch operations.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyfastnn import functional, reference

_ops = torch.ops.pyfastnn


class LinearReLUFunction(torch.autograd.Function):
    """``LinearReLUFunction.apply(input, weight, bias) -> relu(input @ weight.T + bias)``.

    Args:
        input: shape ``[*, K]``.
        weight: shape ``[N, K]``.
        bias: shape ``[N]`` or None.

    Returns:
        Tensor of shape ``[*, N]``; see :func:`pyfastnn.functional.linear_relu` for dtypes, errors
        and numerics.

    Example:
        >>> y = LinearReLUFunction.apply(x, weight, bias)
    """

    generate_vmap_rule = True

    if TYPE_CHECKING:  # Function leaves it untyped

        @classmethod
        def apply(cls, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            """Call the function."""

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the fused kernel."""
        return functional.linear_relu(input, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the arguments, and the output that serves as the mask."""
        _save(ctx, inputs, output, activate_last=True)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> Any:
        """Return the gradients of input, weight and bias that are needed."""
        return _backward(ctx, grad_output, ctx.needs_input_grad)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        """Return the directional derivative of the output."""
        return _jvp(ctx, tangents)


class MLPFunction(torch.autograd.Function):
    """``MLPFunction.apply(input, activate_last, weight_0, bias_0, weight_1, bias_1, ...)``.

    Args:
        input: shape ``[*, N_0]``.
        activate_last: apply the ReLU to the last layer too.
        weight_l: shape ``[N_{l+1}, N_l]``.
        bias_l: shape ``[N_{l+1}]`` or None.

    Returns:
        Tensor of shape ``[*, N_L]``; see :func:`pyfastnn.functional.mlp` for dtypes, errors and
        numerics.

    Note:
        A ``Function`` can save what it takes and returns, nothing between. So the backward
        computes the hidden layers again, which :func:`pyfastnn.functional.mlp` does not.

    Example:
        >>> y = MLPFunction.apply(x, False, weight_0, bias_0, weight_1, bias_1)
    """

    generate_vmap_rule = True

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, input: Tensor, activate_last: bool, *parameters: Tensor | None) -> Tensor:
            """Call the function."""

    @staticmethod
    def forward(input: Tensor, activate_last: bool, *parameters: Tensor | None) -> Tensor:
        """Run the fused kernel."""
        if len(parameters) % 2:
            raise ValueError(
                "MLPFunction: expected a weight and a bias (a tensor or None) for every layer, "
                f"got {len(parameters)} parameters"
            )
        weights: Sequence[Tensor] = parameters[::2]  # type: ignore[assignment]
        return functional.mlp(input, weights, parameters[1::2], activate_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the arguments and the output."""
        input, activate_last, *parameters = inputs
        _save(ctx, (input, *parameters), output, activate_last)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> Any:
        """Return the gradients of the arguments that are needed."""
        needs_grad = ctx.needs_input_grad
        grad_input, *grads = _backward(ctx, grad_output, (needs_grad[0], *needs_grad[2:]))
        return grad_input, None, *grads

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Return the directional derivative of the output."""
        return _jvp(ctx, (tangents[0], *tangents[2:]))


def _save(ctx: Any, args: Sequence[Tensor | None], output: Tensor, activate_last: bool) -> None:
    """Save ``args = (input, weight_0, bias_0, ...)`` and the output for both modes of AD."""
    ctx.set_materialize_grads(False)
    ctx.activate_last = activate_last
    ctx.save_for_backward(*args, output)
    ctx.save_for_forward(*args, output)


class _Saved(NamedTuple):
    """What ``_save`` kept, all in the dtype of the output: under autocast that is another one."""

    input: Tensor
    weights: list[Tensor]
    biases: list[Tensor | None]
    output: Tensor
    dtypes: list[torch.dtype | None]  # of the arguments as they came: input, weight 0, bias 0, ...


def _unpack(ctx: Any) -> _Saved:
    *args, output = ctx.saved_tensors
    dtypes = [None if arg is None else arg.dtype for arg in args]
    args = [None if arg is None else arg.to(output.dtype) for arg in args]
    return _Saved(args[0], args[1::2], args[2::2], output, dtypes)


def _backward(ctx: Any, grad_output: Tensor | None, needs_grad: Sequence[bool]) -> tuple[Any, ...]:
    if grad_output is None:
        return (None,) * len(needs_grad)
    # Unpacked once: activation checkpointing computes the tensors for one access only.
    input, weights, biases, output, dtypes = _unpack(ctx)
    differentiable = torch.is_grad_enabled() or forward_ad._current_level >= 0
    if differentiable:
        outputs = _differentiable_hidden(input, weights, biases)
    elif len(weights) > 1:
        outputs = _ops.mlp_forward(input, weights[:-1], biases[:-1], True)
    else:
        outputs = []
    if ctx.activate_last:
        outputs = [*outputs, output]
    run = reference.mlp_backward if differentiable else _ops.mlp_backward
    grads = iter(run(grad_output, input, weights, outputs, ctx.activate_last, list(needs_grad)))
    return tuple(
        next(grads).to(dtype) if needed else None
        for dtype, needed in zip(dtypes, needs_grad, strict=True)
    )


def _jvp(ctx: Any, tangents: Sequence[Tensor | None]) -> Tensor:
    input, weights, biases, output, _ = _unpack(ctx)
    layer_inputs = [input, *_differentiable_hidden(input, weights, biases)]
    tangent, *parameter_tangents = (
        None if tangent is None else tangent.to(output.dtype) for tangent in tangents
    )
    for layer, weight in enumerate(weights):
        last = layer == len(weights) - 1
        layer_output = output if last else layer_inputs[layer + 1]
        total = torch.zeros_like(layer_output)
        if tangent is not None:
            total = total + torch.nn.functional.linear(tangent, weight)
        weight_tangent, bias_tangent = parameter_tangents[2 * layer : 2 * layer + 2]
        if weight_tangent is not None:
            total = total + torch.nn.functional.linear(layer_inputs[layer], weight_tangent)
        if bias_tangent is not None:
            total = total + bias_tangent
        activated = ctx.activate_last or not last
        tangent = reference.drelu(total, layer_output) if activated else total
    assert tangent is not None
    return tangent


def _differentiable_hidden(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> list[Tensor]:
    """Compute the hidden layers again, so that their own derivatives count."""
    hidden: list[Tensor] = []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        input = functional.linear_relu(input, weight, bias)
        hidden.append(input)
    return hidden
