"""Where to draw: matplotlib is only asked for when somebody draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#f0a868", "#1b5e8c", "#3f8f5f", "#b0413e", "#6d5a97", "#555555")


def axes_for(axes: Axes | None) -> Axes:
    """Return the axes, or those of a new figure."""
    return axes if axes is not None else pyplot().subplots()[1]


def figure_for(figure: Figure | None, width: float, height: float) -> Figure:
    """Return the figure, or a new one of a size in inches."""
    return figure if figure is not None else pyplot().figure(figsize=(width, height))


def pyplot() -> Any:
    """Import matplotlib.pyplot, or say how to get it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "pyfastnn.plot draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    return pyplot


def as_tensor(who: str, what: str, values: Tensor | Iterable[Any], dims: int) -> Tensor:
    """Return values as a tensor on the CPU without gradient, or raise ValueError."""
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(_listed(values))
    if tensor.dim() != dims:
        raise ValueError(
            f"{who}: expected {what} to have {dims} dimensions, got shape {list(tensor.shape)}"
        )
    return tensor.detach().cpu()


def _listed(values: Iterable[Any]) -> Any:
    return values if hasattr(values, "__array__") else list(values)
