"""What a packed network does with sparse input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyfastnn import _C
from pyfastnn._sparse import CsrMatrix, sparse_layer


class SparseFirst:
    """A packed network whose input is sparse: its first layer by itself, the others packed.

    Args:
        weights: of all layers.
        biases: of all layers.
        relu: whether a ReLU follows each.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        relu: Sequence[bool],
    ) -> None:
        self._weight = weights[0].t().contiguous().t()  # columns in one piece: nothing is packed
        self._bias, self._relu = biases[0], relu[0]
        self._rest = _C.prepack(weights[1:], biases[1:], relu[1:]) if len(weights) > 1 else None

    def __call__(self, input: Tensor | CsrMatrix) -> Tensor:
        """Apply the network."""
        if isinstance(input, Tensor) and input.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "prepack: expected input not to require grad: a packed network has no gradients; "
                "call it under torch.no_grad(), or call the model it was made from"
            )
        hidden = sparse_layer("prepack", input, self._weight, self._bias, self._relu)
        return hidden if self._rest is None else self._rest.forward(hidden)
