"""What the layers of a network have learnt, as images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfastnn.plot._figure import as_tensor, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def first_layer(
    weight: Tensor, shape: tuple[int, int], axes: Axes | None = None, columns: int = 16
) -> Axes:
    """Draw the weights of a layer that sees pixels: an image for each unit, the strongest first.

    Red pixels speak for the unit, blue ones against it, white ones do not matter to it.

    Args:
        weight: ``[N, height * width]``, row n the weights of unit n.
        shape: ``(height, width)`` of an image.
        axes: where to draw; those of a new figure if None.
        columns: images side by side.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit.
    """
    weight = as_tensor("first_layer", "weight", weight, 2).float()
    _check_pixels("first_layer", "weight", weight, shape)
    order = weight.norm(dim=1).argsort(descending=True)
    # A few extreme weights would wash out all others.
    limit = float(weight.abs().quantile(0.995)) if weight.numel() else 1.0
    axes = axes_for(axes)
    mosaic = _mosaic(weight[order], shape, columns)
    axes.imshow(mosaic.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_axis_off()
    return axes


def top_inputs(
    values: Tensor,
    inputs: Tensor,
    shape: tuple[int, int],
    units: Iterable[int] | None = None,
    count: int = 8,
    axes: Axes | None = None,
) -> Axes:
    """Draw what units respond to most: a row for each unit, its strongest inputs from the left.

    Args:
        values: ``[M, N]``, what N units give out for M inputs, see
            :func:`pyfastnn.layer_outputs`.
        inputs: ``[M, height * width]``, the images.
        shape: ``(height, width)`` of an image.
        units: which; the eight with the largest values if None.
        count: images in a row.
        axes: where to draw; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit.
    """
    values = as_tensor("top_inputs", "values", values, 2).float()
    inputs = as_tensor("top_inputs", "inputs", inputs, 2).float()
    _check_pixels("top_inputs", "inputs", inputs, shape)
    if len(values) != len(inputs):
        raise ValueError(
            f"top_inputs: expected values and inputs to have the same number of rows, got "
            f"{len(values)} and {len(inputs)}"
        )
    if units is None:
        units = values.amax(0).argsort(descending=True)[:8].tolist()
    chosen = list(units)
    best = values[:, chosen].topk(min(count, len(values)), dim=0).indices  # [count, units]
    mosaic = _mosaic(inputs[best.T.flatten()], shape, len(best))
    axes = axes_for(axes)
    axes.imshow(mosaic.numpy(), cmap="gray_r", interpolation="nearest")
    axes.set_xticks([])
    cell = shape[0] + 1
    axes.set_yticks([(row + 0.5) * cell for row in range(len(chosen))], [f"{u}" for u in chosen])
    axes.set_ylabel("unit")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def images(
    inputs: Tensor,
    shape: tuple[int, int],
    titles: Sequence[str] = (),
    columns: int = 8,
    axes: Axes | None = None,
) -> Axes:
    """Draw images in a grid, each under its title: the mistakes of a classifier, for example.

    Args:
        inputs: ``[M, height * width]``.
        shape: ``(height, width)`` of an image.
        titles: of the images, as many or none.
        columns: images side by side.
        axes: where to draw; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit.
    """
    inputs = as_tensor("images", "inputs", inputs, 2).float()
    _check_pixels("images", "inputs", inputs, shape)
    if titles and len(titles) != len(inputs):
        raise ValueError(f"images: expected {len(inputs)} titles, got {len(titles)}")
    room = shape[0] // 2 if titles else 0
    mosaic = _mosaic(inputs, shape, columns, room)
    axes = axes_for(axes)
    axes.set_axis_off()
    if len(inputs):
        axes.imshow(mosaic.numpy(), cmap="gray_r", interpolation="nearest")
    for place, title in enumerate(titles):
        line, column = divmod(place, columns)
        x = column * (shape[1] + 1) + shape[1] / 2
        y = line * (shape[0] + 1 + room) + room - 1
        axes.text(x, y, title, ha="center", va="bottom")
    return axes


def _check_pixels(who: str, what: str, rows: Tensor, shape: tuple[int, int]) -> None:
    if rows.shape[1] != shape[0] * shape[1]:
        raise ValueError(
            f"{who}: expected {what} of shape [*, {shape[0]} * {shape[1]}], got {list(rows.shape)}"
        )


def _mosaic(rows: Tensor, shape: tuple[int, int], columns: int, room: int = 0) -> Tensor:
    """Return rows of pixels as images in a grid, with room above each and a pixel between them."""
    height, width = room + shape[0] + 1, shape[1] + 1
    lines = math.ceil(len(rows) / columns)
    mosaic = torch.full((lines * height, columns * width), torch.nan)
    for place, pixels in enumerate(rows):
        line, column = divmod(place, columns)
        corner = mosaic[line * height + room :, column * width :]
        corner[: shape[0], : shape[1]] = pixels.view(shape)
    return mosaic
