"""Features like those of e-mails: word counts by Zipf's law, weighted as tf-idf."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

COLUMNS = 20_000


def texts(
    rows: int, seed: int, dtype: npt.DTypeLike = np.float64, columns: int = COLUMNS
) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return a CSR matrix with 80 to 120 entries in most rows (0.5 %), and labels 0 and 1.

    Both classes draw their words from the same law, but for a third of the words of class 1, which
    come from a thousand rarer ones.
    """
    generator = np.random.default_rng(seed)
    law = 1 / np.arange(1, columns + 1)
    law /= law.sum()
    topic = np.random.default_rng(0).choice(columns, min(1000, columns), replace=False)
    labels = generator.integers(0, 2, rows)
    counts = []
    for label in labels:
        words = generator.choice(columns, generator.integers(95, 155), p=law)
        if label:
            third = len(words) // 3
            words[:third] = generator.choice(topic, third)
        counts.append(np.unique(words, return_counts=True))
    begin = np.concatenate([[0], np.cumsum([len(words) for words, _ in counts])])
    words, times = (np.concatenate(part) for part in zip(*counts, strict=True))
    matrix = sparse.csr_array(
        (times.astype(np.float64), words.astype(np.int32), begin.astype(np.int32)),
        shape=(rows, columns),
    )
    return TfidfTransformer().fit_transform(matrix).tocsr().astype(dtype), labels
