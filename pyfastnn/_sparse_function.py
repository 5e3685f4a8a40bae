"""The derivative of a layer with sparse input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfastnn import reference

_sparse_linear = torch.ops.pyfastnn.sparse_linear.default
_sparse_linear_backward = torch.ops.pyfastnn.sparse_linear_backward.default


class SparseLinearFunction(torch.autograd.Function):
    """``apply(crow, col, values, columns, weight, bias, relu) -> [M, N]``.

    The first derivative by values, weight and bias is fused. Where it is differentiated again, the
    operators run as differentiable PyTorch operations.
    """

    generate_vmap_rule = True

    if TYPE_CHECKING:  # Function leaves it untyped

        @classmethod
        def apply(
            cls,
            crow: Tensor,
            col: Tensor,
            values: Tensor,
            columns: int,
            weight: Tensor,
            bias: Tensor | None,
            relu: bool,
        ) -> Tensor:
            """Call the function."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        """Run the fused kernel."""
        return _sparse_linear(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the arguments, and the output that serves as the mask."""
        crow, col, values, ctx.columns, weight, _, ctx.relu = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(crow, col, values, weight, output)
        ctx.save_for_forward(crow, col, values, weight, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> Any:
        """Return the gradients of values, weight and bias that are needed."""
        needs_grad = [ctx.needs_input_grad[place] for place in (2, 4, 5)]
        if grad_output is None or not any(needs_grad):
            return (None,) * 7
        *arguments, output = ctx.saved_tensors
        mask = output if ctx.relu else None
        grads = iter(_sparse_linear_backward(grad_output, *arguments, mask, needs_grad))
        of_values, of_weight, of_bias = (next(grads) if needed else None for needed in needs_grad)
        return None, None, of_values, None, of_weight, of_bias, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Return the directional derivative of the output."""
        crow, col, values, weight, output = ctx.saved_tensors
        _, _, of_values, _, of_weight, of_bias, _ = tangents
        tangent = torch.zeros_like(output)
        if of_values is not None:
            tangent = tangent + _sparse_linear(
                crow, col, of_values, ctx.columns, weight, None, False
            )
        if of_weight is not None:
            tangent = tangent + _sparse_linear(
                crow, col, values, ctx.columns, of_weight, None, False
            )
        if of_bias is not None:
            tangent = tangent + of_bias
        return reference.drelu(tangent, output) if ctx.relu else tangent
