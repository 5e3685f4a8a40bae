"""Draws the picture of a run."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes a file, needs no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from style import STYLE

from pyfastnn import plot
from spam_filter.race import OURS, Result

COLOURS = ("#f0a868", "#1b5e8c", "#555555")
SPAM_COLOUR, HAM_COLOUR = "#b0413e", "#1b5e8c"


def draw(
    path: Path,
    *,
    title: str,
    subtitle: str,
    results: list[Result],
    words: list[tuple[str, float]],
) -> None:
    """Write the picture of a run: a column for each split, and one for times and words.

    Args:
        path: file to write; its suffix names the format, its folder is created if missing.
        title: one line with the result.
        subtitle: one line with the circumstances.
        results: of all classifiers on all splits.
        words: what the words add to the log-odds of spam, to be drawn from top to bottom.
    """
    names = list(dict.fromkeys(result.split for result in results))
    with plt.rc_context(STYLE):
        columns = len(names) + 1
        figure, axes = plt.subplots(
            2, columns, figsize=(6 * columns, 10), squeeze=False, layout="constrained"
        )
        figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=16, fontweight="bold")
        figure.text(0.01, 0.945, subtitle, fontsize=11)
        for column, name in enumerate(names):
            of_split = [result for result in results if result.split == name]
            _draw_precision_recall(axes[0, column], of_split)
            _draw_confusion(axes[1, column], of_split)
        _draw_times(axes[0, -1], [result for result in results if result.split == names[0]])
        _draw_words(axes[1, -1], words)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def _draw_precision_recall(axes: Axes, results: list[Result]) -> None:
    for result, colour in zip(results, COLOURS, strict=True):
        plot.precision_recall(
            result.is_spam,
            result.probabilities,
            axes,
            result.name,
            color=colour,
            # Wide, so that a curve that lies exactly on it does not hide it.
            linewidth=6 if result.name == OURS else 1.6,
        )
    axes.set_xlim(0.7, 1.005)
    axes.set_ylim(0.7, 1.005)
    axes.legend(frameon=False, loc="lower left")
    axes.set_title(f"{results[0].split.capitalize()} split: precision and recall of spam")


def _draw_confusion(axes: Axes, results: list[Result]) -> None:
    (ours,) = (result for result in results if result.name == OURS)
    plot.confusion_matrix(ours.is_spam, ours.taken, ["not_spam", "spam"], axes)
    axes.set_title(f"{ours.split.capitalize()} split: answers of pyfastnn")


def _draw_times(axes: Axes, results: list[Result]) -> None:
    names = [result.name.replace(" ", "\n") for result in results]
    bars = axes.bar(names, [result.seconds for result in results], color=COLOURS, width=0.55)
    axes.bar_label(bars, [f"{result.seconds:.2f} s" for result in results], padding=4)
    axes.set_title(f"Time of fit, {results[0].split} split")
    axes.get_yaxis().set_visible(False)
    axes.spines["left"].set_visible(False)


def _draw_words(axes: Axes, words: list[tuple[str, float]]) -> None:
    labels = [word for word, _ in words]
    values = [value for _, value in words]
    colours = [SPAM_COLOUR if value > 0 else HAM_COLOUR for value in values]
    places = range(len(words))
    axes.barh(places, values, color=colours)
    axes.set_yticks(places, labels, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("added to the log-odds of spam in test mails that have it")
    axes.set_title("Most telling words (names left out)")
