"""Which mails are for learning and which for testing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from spam_filter.corpus import Corpus

Indices = npt.NDArray[np.int64]
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """A division of a corpus; no mail is in both parts.

    Attributes:
        name: what reports call it.
        train: indices of the mails to learn from.
        test: indices of the others.
    """

    name: str
    train: Indices
    test: Indices


def splits(corpus: Corpus, seed: int) -> list[Split]:
    """Return a random split and, where it is known what was collected later, a split by time.

    The second is the harder one, and what a filter meets: mail that is newer than all it has seen.
    """
    made = [random_split(corpus, seed)]
    if corpus.is_later is not None:
        later = corpus.is_later
        made.append(Split("earlier to later", np.flatnonzero(~later), np.flatnonzero(later)))
    return made


def random_split(corpus: Corpus, seed: int) -> Split:
    """Draw a fifth of the mails for the test, with the share of spam that there is in all."""
    train, test = train_test_split(
        np.arange(len(corpus)), test_size=TEST_SHARE, stratify=corpus.is_spam, random_state=seed
    )
    return Split("random", np.sort(train), np.sort(test))
