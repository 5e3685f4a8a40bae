"""What an optimizer would do with gradients, tried on a copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from pyfastnn.explain._record import norm


def update_norms(optimizer: Optimizer, gradients: Mapping[int, Tensor | None]) -> dict[int, float]:
    """Return how far a step would move each parameter (Euclidean norm), by id of the parameter.

    Raises:
        TypeError: if a copy of the optimizer cannot make a step.
    """
    twin = copy.deepcopy(optimizer)
    before: dict[int, tuple[Tensor, Tensor]] = {}
    for group, twin_group in zip(optimizer.param_groups, twin.param_groups, strict=True):
        for parameter, copied in zip(group["params"], twin_group["params"], strict=True):
            copied.grad = gradients.get(id(parameter))
            before[id(parameter)] = (copied, copied.detach().clone())
    try:
        twin.step()
    except Exception as error:
        name = type(optimizer).__name__
        raise TypeError(f"explain_backward: a copy of {name} made no step: {error}") from error
    return {key: norm(moved.detach() - start) for key, (moved, start) in before.items()}
