"""Draws the picture of a side-by-side training run on images of digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # writes a file, needs no screen

import matplotlib.pyplot as plt
import torch
from digits import SIDE
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor
from training import History

COLOURS = ("#f0a868", "#1b5e8c", "#3f8f5f")
# The first curve is wide, so that one that lies exactly on it does not hide it.
WIDTHS = (6.0, 1.8, 1.0)
POINTS_PER_EPOCH = 6
FILTER_COLUMNS = 16
MISTAKE_ROWS, MISTAKE_COLUMNS = 4, 8
INK = "#333333"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "text.color": INK,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(
    path: Path,
    *,
    title: str,
    subtitle: str,
    histories: dict[str, History],
    weight: Tensor,
    images: Tensor,
    labels: Tensor,
    predictions: Tensor,
) -> None:
    """Write the picture of a run.

    Args:
        path: file to write; its suffix names the format, its folder is created if missing.
        title: one line with the result.
        subtitle: one line with the circumstances: network, data, batch, threads.
        histories: what was measured, by name; the others are compared with the first one.
        weight: weight ``[n, 784]`` of the first layer of the last contender.
        images: test images ``[m, 784]``, 0 to 1.
        labels: their classes ``[m]``.
        predictions: the classes that the last contender gave them ``[m]``.
    """
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(14, 9.8), dpi=100)
        figure.text(0.08, 0.955, title, fontsize=17, fontweight="bold")
        figure.text(0.08, 0.925, subtitle, fontsize=12)
        grid = figure.add_gridspec(
            2,
            2,
            left=0.08,
            right=0.97,
            bottom=0.03,
            top=0.865,
            width_ratios=(1.3, 1),
            wspace=0.09,
            hspace=0.3,
        )
        left = grid[0, 0].subgridspec(2, 1, height_ratios=(3, 1))
        curves = figure.add_subplot(left[0])
        _draw_curves(curves, histories)
        _draw_differences(figure.add_subplot(left[1], sharex=curves), histories)
        _draw_times(figure.add_subplot(grid[0, 1]), histories)
        shown = list(histories)[-1]
        _draw_filters(figure.add_subplot(grid[1, 0]), shown, weight)
        _draw_mistakes(figure, grid[1, 1], shown, images, labels, predictions)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        plt.close(figure)


def _draw_curves(axes: Axes, histories: dict[str, History]) -> None:
    for (name, history), colour, width in zip(histories.items(), COLOURS, WIDTHS, strict=False):
        points = [part.mean() for epoch in history.losses for part in epoch.chunk(POINTS_PER_EPOCH)]
        per_epoch = len(points) / len(history.losses)
        epochs = (torch.arange(len(points)) + 0.5) / per_epoch
        axes.plot(
            epochs.numpy(), torch.stack(points).numpy(), color=colour, linewidth=width, label=name
        )
    axes.set_yscale("log")
    axes.set_title("Training loss: same weights and batches, same curve")
    axes.set_ylabel("cross entropy")
    axes.tick_params(labelbottom=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _draw_differences(axes: Axes, histories: dict[str, History]) -> None:
    """Draw how far the mean loss of each epoch is from that of the first contender."""
    reference, *others = histories.values()
    for history, colour in zip(others, COLOURS[1:], strict=False):
        difference = (history.epoch_losses - reference.epoch_losses).abs()
        epochs = torch.arange(len(difference)) + 0.5
        axes.plot(
            epochs.numpy(),
            difference.numpy(),
            "o-",
            color=colour,
            markersize=4,
            linewidth=1,
            clip_on=False,
        )
    axes.set_yscale("symlog", linthresh=1e-8)  # logarithmic, but can show that nothing differs
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(FixedLocator([0, 1e-6, 1e-4, 1e-2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("epoch")
    axes.set_ylabel("difference of\nepoch means")
    axes.grid(alpha=0.25)


def _draw_times(axes: Axes, histories: dict[str, History]) -> None:
    seconds = [history.total_seconds for history in histories.values()]
    bars = axes.bar(list(histories), seconds, color=COLOURS[: len(seconds)], width=0.55)
    first = seconds[0]
    labels = [f"{first:.3g} s"]
    labels += [f"{value:.3g} s\n{first / value:.2f}x as fast" for value in seconds[1:]]
    axes.bar_label(bars, labels, padding=4, fontsize=13, fontweight="bold")
    axes.set_ylim(0, 1.2 * max(seconds))
    axes.set_title("Time of all training steps")
    axes.get_yaxis().set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0, labelsize=12)


def _draw_filters(axes: Axes, name: str, weight: Tensor) -> None:
    """Draw each row of ``weight`` as an image, the rows with the largest norm first."""
    order = weight.norm(dim=1).argsort(descending=True)
    rows = -(-len(weight) // FILTER_COLUMNS)
    cell = SIDE + 2  # one empty pixel around each image
    mosaic = torch.full((rows * cell, FILTER_COLUMNS * cell), torch.nan)
    for place, unit in enumerate(order.tolist()):
        row, column = divmod(place, FILTER_COLUMNS)
        window = mosaic[row * cell + 1 :, column * cell + 1 :][:SIDE, :SIDE]
        window.copy_(weight[unit].view(SIDE, SIDE))
    # A few extreme weights would wash out all others.
    limit = weight.abs().quantile(0.995).item()
    axes.imshow(mosaic.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(f"First layer of {name}: {len(weight)} units, weights as 28x28 (red +, blue -)")
    axes.set_anchor("NW")
    axes.set_axis_off()


def _draw_mistakes(
    figure: Figure,
    place: SubplotSpec,
    name: str,
    images: Tensor,
    labels: Tensor,
    predictions: Tensor,
) -> None:
    """Draw the first misclassified images, in the order of the test set."""
    mistakes = (labels != predictions).nonzero().flatten().tolist()
    shown = mistakes[: MISTAKE_ROWS * MISTAKE_COLUMNS]
    frame = figure.add_subplot(place)
    frame.set_title(
        f"{len(shown)} of {len(mistakes)} mistakes of {name}: true \N{RIGHTWARDS ARROW} predicted"
    )
    frame.set_axis_off()
    # The empty first row keeps the labels of the first images clear of the title.
    cells = place.subgridspec(
        MISTAKE_ROWS + 1,
        MISTAKE_COLUMNS,
        height_ratios=(0.1, *[1] * MISTAKE_ROWS),
        hspace=0.4,
        wspace=0.1,
    )
    for index, number in enumerate(shown):
        row, column = divmod(index, MISTAKE_COLUMNS)
        axes = figure.add_subplot(cells[row + 1, column])
        axes.imshow(images[number].view(SIDE, SIDE).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(
            f"{labels[number]} \N{RIGHTWARDS ARROW} {predictions[number]}",
            loc="center",
            pad=3,
            fontsize=11,
            fontweight="normal",
        )
        axes.set_axis_off()
