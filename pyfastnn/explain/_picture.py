"""A backward trace as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyfastnn.plot._figure import COLOURS, figure_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyfastnn.explain._trace import BackwardTrace, LayerTrace


def draw(trace: BackwardTrace, figure: Figure | None) -> Figure:
    """Draw gradients, values and weights side by side, a row for each layer, the loss on top."""
    layers = trace.layers
    figure = figure_for(figure, 12, 2 + 0.4 * len(layers))
    axes = figure.subplots(1, 3, sharey=True)
    axes[0].set_yticks(range(len(layers)), [layer.name for layer in layers])
    axes[0].set_ylim(len(layers) - 0.4, -0.6)  # the loss comes first
    _draw_gradients(axes[0], layers)
    _draw_shares(axes[1], layers)
    _draw_weights(axes[2], layers)
    for panel in axes:
        panel.grid(axis="x", alpha=0.25)
        panel.tick_params(axis="y", length=0)
    figure.suptitle(f"Backward from a loss of {trace.loss:.4g} ({trace.loss_name}) to the input")
    figure.tight_layout()
    return figure


def _draw_gradients(axes: Axes, layers: Sequence[LayerTrace]) -> None:
    """Draw the way of the gradient down through the layers, with the factor of each."""
    path = [(layer.gradient_in, row - 0.25) for row, layer in enumerate(layers)]
    path += [(layer.gradient_out, row + 0.25) for row, layer in enumerate(layers)]
    _points(axes, sorted(path, key=lambda point: point[1]), COLOURS[1], "o-")
    for row, layer in enumerate(layers):
        if layer.factor is not None:
            place: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "ha": "right",
                "va": "center",
            }
            axes.text(0.98, row, f"x {layer.factor:.2g}", fontsize=9, **place)
    axes.set_title("gradient, coming in and going out")


def _draw_shares(axes: Axes, layers: Sequence[LayerTrace]) -> None:
    """Draw how much of the values is zero, and how many units are dead."""
    rows = range(len(layers))
    axes.barh(rows, [layer.zero_share for layer in layers], 0.6, color=COLOURS[0], label="zero")
    dead = [layer.dead_share or 0.0 for layer in layers]
    axes.barh(rows, dead, 0.3, color=COLOURS[3], label="units that are dead")
    axes.set_xlim(0, 1)
    axes.set_title("share of the values that is zero")
    axes.legend(frameon=False, fontsize=8)


def _draw_weights(axes: Axes, layers: Sequence[LayerTrace]) -> None:
    """Draw the sizes of the updates, or of the gradients if there is no optimizer."""
    has_updates = any(layer.update_ratio is not None for layer in layers)
    sizes = [layer.update_ratio if has_updates else layer.weight_gradient_norm for layer in layers]
    _points(axes, list(zip(sizes, range(len(layers)), strict=True)), COLOURS[2], "s")
    axes.set_title("update / weight" if has_updates else "gradient of the weight")


def _points(
    axes: Axes, points: Sequence[tuple[float | None, float]], colour: str, marks: str
) -> None:
    """Draw sizes on a logarithmic axis, without those that have no logarithm."""
    shown = [(size, row) for size, row in points if size and math.isfinite(size)]
    if not shown:
        return
    logarithms = [math.log10(size) for size, _ in shown]
    axes.set_xscale("log")
    axes.set_xlim(10 ** math.floor(min(logarithms)), 10 ** (math.ceil(max(logarithms)) + 0.5))
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.plot(*zip(*shown, strict=True), marks, color=colour, markersize=5)
