"""Curves over the epochs of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfastnn.plot._figure import COLOURS, as_tensor, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def loss_curves(
    losses: Mapping[str, Tensor | Iterable[float]],
    axes: Axes | None = None,
    epochs: float | None = None,
) -> Axes:
    """Draw losses over the epochs, on a logarithmic axis.

    Args:
        losses: by name, each evenly spread over the training: one for each epoch, or more.
        axes: where to draw; those of a new figure if None.
        epochs: length of the training; as many as there are losses if None.

    Returns:
        The axes.
    """
    axes = _draw("loss_curves", losses, axes, epochs, middle=True)
    axes.set_yscale("log")
    axes.set_ylabel("loss")
    return axes


def accuracy_curves(
    accuracies: Mapping[str, Tensor | Iterable[float]], axes: Axes | None = None
) -> Axes:
    """Draw the accuracy after each epoch.

    Args:
        accuracies: by name, one for each epoch, 0 to 1.
        axes: where to draw; those of a new figure if None.

    Returns:
        The axes.
    """
    axes = _draw("accuracy_curves", accuracies, axes, None, middle=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    axes.set_ylabel("accuracy")
    return axes


def _draw(
    who: str,
    series: Mapping[str, Tensor | Iterable[float]],
    axes: Axes | None,
    epochs: float | None,
    middle: bool,
) -> Axes:
    axes = axes_for(axes)
    for index, (name, values) in enumerate(series.items()):
        points = as_tensor(who, name, values, 1)
        # A mean belongs to the middle of the time it was taken over, an accuracy to the end.
        at = (torch.arange(len(points)) + (0.5 if middle else 1)) / max(len(points), 1)
        at = at * (epochs if epochs is not None else len(points))
        axes.plot(
            at.tolist(),
            points.tolist(),
            label=name,
            color=COLOURS[index % len(COLOURS)],
            # The first is wide, so that one that lies exactly on it does not hide it.
            linewidth=6 if index == 0 and len(series) > 1 else 1.6,
        )
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return axes
