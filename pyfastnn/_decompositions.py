"""The operators as plain ATen operations, for exporters that have no kernels of ours.

``torch.onnx.export`` takes decompositions from the table these are registered in. Eager PyTorch,
``torch.compile`` and ``torch.export`` do not: there the operators stay whole.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from pyfastnn import reference

_ops = torch.ops.pyfastnn


def linear_relu(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``relu(linear(...))``."""
    return reference.fprop(input, weight, bias)


def mlp(
    input: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool = False,
) -> Tensor:
    """Return the same layer by layer."""
    return reference.mlp_forward(input, weights, biases, activate_last)[-1]


for _op, _formula in ((_ops.linear_relu.default, linear_relu), (_ops.mlp.default, mlp)):
    register_decomposition(_op)(_formula)
    # Says that there is a Meta kernel, which checks the arguments: else fake tensors of unknown
    # sizes would go through the decomposition.
    register_decomposition(_op, type="meta")(_op)
