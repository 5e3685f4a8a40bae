"""Draws the picture of a side-by-side training run on images of digits."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes a file, needs no screen

import matplotlib.pyplot as plt
import torch
from digits import SIDE
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from style import STYLE
from torch import Tensor
from training import History

from pyfastnn import plot

POINTS_PER_EPOCH = 6
TOP_UNITS, TOP_IMAGES = 8, 10
MISTAKE_ROWS, MISTAKE_COLUMNS = 4, 8
SHAPE = (SIDE, SIDE)


def draw(
    path: Path,
    *,
    title: str,
    subtitle: str,
    histories: dict[str, History],
    weight: Tensor,
    responses: Tensor,
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
        responses: what the units of its last hidden layer give out for the images ``[m, units]``.
        images: test images ``[m, 784]``, 0 to 1.
        labels: their classes ``[m]``.
        predictions: the classes that the last contender gave them ``[m]``.
    """
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(19, 9.8), dpi=100)
        figure.text(0.055, 0.955, title, fontsize=17, fontweight="bold")
        figure.text(0.055, 0.925, subtitle, fontsize=12)
        grid = figure.add_gridspec(
            2,
            3,
            left=0.055,
            right=0.98,
            bottom=0.03,
            top=0.865,
            width_ratios=(1.2, 0.95, 1.1),
            wspace=0.14,
            hspace=0.3,
        )
        left = grid[0, 0].subgridspec(2, 1, height_ratios=(3, 1))
        curves = figure.add_subplot(left[0])
        _draw_losses(curves, histories)
        colours = [line.get_color() for line in curves.lines]
        _draw_differences(figure.add_subplot(left[1], sharex=curves), histories, colours)
        _draw_accuracies(figure.add_subplot(grid[0, 1]), histories)
        _draw_times(figure.add_subplot(grid[0, 2]), histories, colours)
        shown = list(histories)[-1]
        _draw_first_layer(figure.add_subplot(grid[1, 0]), weight)
        _draw_top_inputs(figure.add_subplot(grid[1, 1]), responses, images)
        _draw_mistakes(figure.add_subplot(grid[1, 2]), shown, images, labels, predictions)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        plt.close(figure)


def _draw_losses(axes: Axes, histories: dict[str, History]) -> None:
    losses = {}
    for name, history in histories.items():
        parts = [part for epoch in history.losses for part in epoch.chunk(POINTS_PER_EPOCH)]
        losses[name] = torch.stack([part.mean() for part in parts])
    epochs = max(len(history.losses) for history in histories.values())
    plot.loss_curves(losses, axes, epochs)
    axes.set_title("Training loss: same weights and batches, same curve")
    axes.set_ylabel("cross entropy")
    axes.set_xlabel("")
    axes.tick_params(labelbottom=False)


def _draw_differences(axes: Axes, histories: dict[str, History], colours: list[str]) -> None:
    """Draw how far the mean loss of each epoch is from that of the first contender."""
    reference, *others = histories.values()
    for history, colour in zip(others, colours[1:], strict=True):
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


def _draw_accuracies(axes: Axes, histories: dict[str, History]) -> None:
    plot.accuracy_curves({name: history.accuracies for name, history in histories.items()}, axes)
    axes.get_legend().remove()  # that of the losses holds here too
    axes.set_title("Accuracy on the test images")
    axes.set_ylabel("")


def _draw_times(axes: Axes, histories: dict[str, History], colours: list[str]) -> None:
    seconds = [history.total_seconds for history in histories.values()]
    bars = axes.bar(list(histories), seconds, color=colours, width=0.55)
    first = seconds[0]
    labels = [f"{first:.3g} s"]
    labels += [f"{value:.3g} s\n{first / value:.2f}x as fast" for value in seconds[1:]]
    axes.bar_label(bars, labels, padding=4, fontsize=13, fontweight="bold")
    axes.set_ylim(0, 1.2 * max(seconds))
    axes.set_title("Time of all training steps")
    axes.get_yaxis().set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0, labelsize=12)


def _draw_first_layer(axes: Axes, weight: Tensor) -> None:
    plot.first_layer(weight, SHAPE, axes)
    axes.set_title(f"First layer: weights of its {len(weight)} units (red +, blue -)")
    axes.set_anchor("NW")


def _draw_top_inputs(axes: Axes, responses: Tensor, images: Tensor) -> None:
    strongest = responses.amax(0).argsort(descending=True)[:TOP_UNITS].tolist()
    plot.top_inputs(responses, images, SHAPE, strongest, TOP_IMAGES, axes)
    axes.set_title("Last hidden layer: what its units respond to most")
    axes.set_anchor("NW")


def _draw_mistakes(
    axes: Axes, name: str, images: Tensor, labels: Tensor, predictions: Tensor
) -> None:
    """Draw the first misclassified images, in the order of the test set."""
    mistakes = (labels != predictions).nonzero().flatten()
    shown = mistakes[: MISTAKE_ROWS * MISTAKE_COLUMNS]
    titles = [f"{labels[i]} \N{RIGHTWARDS ARROW} {predictions[i]}" for i in shown]
    plot.images(images[shown], SHAPE, titles, MISTAKE_COLUMNS, axes)
    arrow = "true \N{RIGHTWARDS ARROW} predicted"
    axes.set_title(f"{len(shown)} of {len(mistakes)} mistakes of {name}: {arrow}")
    axes.set_anchor("NW")
