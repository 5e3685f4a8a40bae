"""How well classes are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfastnn.plot._figure import as_tensor, axes_for
from pyfastnn.plot._ranking import Ranking, precision_recall_points, rank, roc_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion_matrix(
    labels: Tensor | Iterable[float],
    predictions: Tensor | Iterable[float],
    names: Sequence[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw how often each class was taken for each other.

    The colour is the share of the row, so rare classes are seen as well as frequent ones.

    Args:
        labels: true classes ``[M]``, 0 to C - 1.
        predictions: classes that were predicted ``[M]``.
        names: of the C classes; their numbers if None.
        axes: where to draw; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit or a class has no name.
    """
    true = as_tensor("confusion_matrix", "labels", labels, 1).long()
    taken = as_tensor("confusion_matrix", "predictions", predictions, 1).long()
    if true.shape != taken.shape:
        raise ValueError(
            f"confusion_matrix: expected as many predictions as labels, got {len(taken)} and "
            f"{len(true)}"
        )
    both = torch.cat([true, taken])
    count = len(names) if names is not None else int(both.max()) + 1 if len(both) else 0
    if len(both) and (int(both.min()) < 0 or int(both.max()) >= count):
        raise ValueError(f"confusion_matrix: expected classes from 0 to {count - 1}")
    matrix = (true * count + taken).bincount(minlength=count * count).view(count, count)
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    axes = axes_for(axes)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in matrix.nonzero().tolist():
        colour = "white" if share[row, column] > 0.5 else "#333333"
        text = str(int(matrix[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    ticks = list(names) if names is not None else [str(number) for number in range(count)]
    axes.set_xticks(range(count), ticks)
    axes.set_yticks(range(count), ticks)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return axes


def roc(
    labels: Tensor | Iterable[float],
    scores: Tensor | Iterable[float],
    axes: Axes | None = None,
    name: str = "",
    **style: Any,
) -> Axes:
    """Draw the receiver operating characteristic: hits against false alarms, at every threshold.

    Call it again with the same axes to compare. The legend has the area under the curve: the
    probability that a positive has a higher score than a negative.

    Args:
        labels: 1 or True for positives, 0 or False for negatives, ``[M]``.
        scores: higher means more likely positive, ``[M]``.
        axes: where to draw; those of a new figure if None.
        name: what the legend calls it.
        **style: passed on to ``Axes.plot``.

    Returns:
        The axes.

    Raises:
        ValueError: if labels or scores are not as above, or all labels are the same.
    """
    ranking = _ranking("roc", labels, scores)
    false_alarms, hits, area = roc_points(ranking)
    axes = axes_for(axes)
    label = f"{name}: area {area:.4f}" if name else f"area {area:.4f}"
    axes.plot(false_alarms.tolist(), hits.tolist(), label=label, **style)
    return _finish(axes, "false alarms (share of the negatives)", "hits (share of the positives)")


def precision_recall(
    labels: Tensor | Iterable[float],
    scores: Tensor | Iterable[float],
    axes: Axes | None = None,
    name: str = "",
    **style: Any,
) -> Axes:
    """Draw precision against recall, at every threshold.

    Precision is the share of true positives among what was taken for positive, recall the share of
    the positives that was found. The legend has the average precision.

    Args:
        labels: as for :func:`roc`.
        scores: as for :func:`roc`.
        axes: where to draw; those of a new figure if None.
        name: what the legend calls it.
        **style: passed on to ``Axes.plot``.

    Returns:
        The axes.

    Raises:
        ValueError: as :func:`roc`.
    """
    ranking = _ranking("precision_recall", labels, scores)
    recall, precision, average = precision_recall_points(ranking)
    axes = axes_for(axes)
    label = f"{name}: average {average:.4f}" if name else f"average {average:.4f}"
    # Between two thresholds there is no point: precision is that of the lower one.
    axes.step(
        [0.0, *recall.tolist()], [precision[0].item(), *precision.tolist()], label=label, **style
    )
    return _finish(axes, "recall", "precision")


def _ranking(
    who: str, labels: Tensor | Iterable[float], scores: Tensor | Iterable[float]
) -> Ranking:
    return rank(
        who, as_tensor(who, "labels", labels, 1), as_tensor(who, "scores", scores, 1).double()
    )


def _finish(axes: Axes, x: str, y: str) -> Axes:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return axes
