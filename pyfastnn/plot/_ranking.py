"""The numbers behind ROC and precision-recall curves, for scores that may be equal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ranking(NamedTuple):
    """Counts when everything with a score of at least a threshold is taken for positive.

    Attributes:
        thresholds: the different scores, the largest first.
        hits: positives taken, for each threshold.
        false_alarms: negatives taken.
        positives: how many there are.
        negatives: how many there are.
    """

    thresholds: Tensor
    hits: Tensor
    false_alarms: Tensor
    positives: int
    negatives: int


def rank(who: str, labels: Tensor, scores: Tensor) -> Ranking:
    """Count for every threshold.

    Raises:
        ValueError: if labels are not 0 and 1 (or bool), do not fit the scores, a score is NaN, or
            one of the classes is missing.
    """
    if labels.shape != scores.shape:
        raise ValueError(f"{who}: expected as many scores as labels, got {len(scores)}")
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(f"{who}: expected labels to be 0 or 1")
    if bool(scores.isnan().any()):
        raise ValueError(f"{who}: a score is NaN")
    positive = labels == 1
    positives = int(positive.sum())
    if not 0 < positives < len(labels):
        raise ValueError(f"{who}: expected labels of both classes, got one")
    order = scores.argsort(descending=True)
    thresholds, counts = torch.unique_consecutive(scores[order], return_counts=True)
    last = counts.cumsum(0) - 1  # equal scores are taken together
    hits = positive[order].long().cumsum(0)[last]
    return Ranking(thresholds, hits, last + 1 - hits, positives, len(labels) - positives)


def roc_points(ranking: Ranking) -> tuple[Tensor, Tensor, float]:
    """Return false-alarm rates, hit rates and the area under the curve."""
    zero = torch.zeros(1, dtype=torch.float64)
    false_alarms = torch.cat([zero, ranking.false_alarms / ranking.negatives])
    hits = torch.cat([zero, ranking.hits / ranking.positives])
    return false_alarms, hits, float(torch.trapezoid(hits, false_alarms))


def precision_recall_points(ranking: Ranking) -> tuple[Tensor, Tensor, float]:
    """Return recalls, precisions and the average precision (precision over the gain of recall)."""
    recall = ranking.hits.double() / ranking.positives
    precision = ranking.hits.double() / (ranking.hits + ranking.false_alarms)
    gain = recall.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return recall, precision, float((precision * gain).sum())
