"""Trains pyfastnn's classifier beside two of scikit-learn's, on the same rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import linear_model, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer

from pyfastnn.sklearn import MLPClassifier
from spam_filter.corpus import Corpus
from spam_filter.features import new_vectorizer
from spam_filter.splits import Split

OURS = "pyfastnn MLPClassifier"
THEIRS = "scikit-learn MLPClassifier"
LINEAR = "scikit-learn LogisticRegression"
HIDDEN, BATCH_SIZE = (64,), 64
INVERSE_PENALTY = 100.0  # of the logistic regression; its default, 1, underfits tf-idf


@dataclass(frozen=True)
class Result:
    """How one classifier did on one split.

    Attributes:
        name: of the classifier.
        split: name of the split.
        seconds: time of ``fit``.
        is_spam: truth, bool ``[m]``.
        probabilities: of spam, ``[m]``.
    """

    name: str
    split: str
    seconds: float
    is_spam: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]

    @property
    def taken(self) -> npt.NDArray[np.bool_]:
        """Which mails were taken for spam."""
        return self.probabilities > 0.5

    @property
    def accuracy(self) -> float:
        """Share of the mails that were classified correctly."""
        return float((self.taken == self.is_spam).mean())

    @property
    def recall(self) -> float:
        """Share of the spam that was found."""
        return float(self.taken[self.is_spam].mean())

    @property
    def false_positives(self) -> int:
        """How many mails that are no spam were taken for it."""
        return int(self.taken[~self.is_spam].sum())

    @property
    def ham(self) -> int:
        """How many mails are no spam."""
        return int((~self.is_spam).sum())


@dataclass(frozen=True)
class Race:
    """What came of one split.

    Attributes:
        results: of all classifiers.
        vectorizer: what was fitted to the training mails.
        ours: the classifier of pyfastnn.
    """

    results: list[Result]
    vectorizer: TfidfVectorizer
    ours: MLPClassifier


def contenders(epochs: int, seed: int) -> dict[str, Any]:
    """Return the classifiers by name; both networks have the same parameters."""
    network = {
        "hidden_layer_sizes": HIDDEN,
        "batch_size": BATCH_SIZE,
        "max_iter": epochs,
        "n_iter_no_change": epochs,  # no early end: all epochs are trained
        "tol": 0.0,
        "random_state": seed,
    }
    return {
        OURS: MLPClassifier(**network),
        THEIRS: neural_network.MLPClassifier(**network),
        LINEAR: linear_model.LogisticRegression(C=INVERSE_PENALTY, max_iter=1000),
    }


def run(corpus: Corpus, split: Split, epochs: int, seed: int, on_fit: Callable[[], object]) -> Race:
    """Fit words and classifiers to the training mails of a split, and try them on the others."""
    train = [corpus.mails[index] for index in split.train]
    test = [corpus.mails[index] for index in split.test]
    vectorizer = new_vectorizer()
    X, X_test = vectorizer.fit_transform(train), vectorizer.transform(test)
    y, y_test = corpus.is_spam[split.train], corpus.is_spam[split.test]
    models = contenders(epochs, seed)
    results = []
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs are wanted
            start = time.perf_counter()
            model.fit(X, y)
            seconds = time.perf_counter() - start
        probabilities = model.predict_proba(X_test)[:, 1].astype(np.float64)
        results.append(Result(name, split.name, seconds, y_test, probabilities))
        on_fit()
    return Race(results, vectorizer, models[OURS])
