"""Times of fit: pyfastnn.sklearn against scikit-learn, same data, parameters and epochs.

``python -m benchmarks.estimators`` prints a Markdown table. The two take turns, for every seed in
another order, in one process that is pinned to so many cores as there are threads. The seed decides
the weights and the orders of both, and how the small data sets are split. Data are float32 where
they come from bytes (MNIST), else float64, as scikit-learn loads them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sklearn
import torch
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import pyfastnn
from benchmarks.machine import commit, cpu_model, pick_cores
from benchmarks.texts import texts
from pyfastnn.sklearn import MLPClassifier

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from archives import cache_folder
from digits import load_digits as load_mnist

Arrays = Sequence[Any]  # training and test features, training and test labels


class Subject(NamedTuple):
    """What is fitted to which data."""

    load: Callable[[int], Arrays]
    parameters: dict[str, Any]
    epochs: int


class Fit(NamedTuple):
    """One measurement."""

    seconds: float
    accuracy: float


def mnist(seed: int) -> Arrays:
    """Return MNIST with its own test set."""
    data = load_mnist(cache_folder())
    tensors = data.train_images, data.test_images, data.train_labels, data.test_labels
    return [tensor.numpy() for tensor in tensors]


def emails(seed: int) -> Arrays:
    """Return sparse features of about 120 entries a row, as of tf-idf."""
    X, y = texts(6000, seed)
    return [X[:5000], X[5000:], y[:5000], y[5000:]]


def split(load: Callable[..., tuple[Any, Any]], seed: int) -> Arrays:
    """Return three quarters and a quarter of a small data set, scaled."""
    X, y = load(return_X_y=True)
    parts = train_test_split(X, y, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(parts[0])
    return [scaler.transform(parts[0]), scaler.transform(parts[1]), *parts[2:]]


SUBJECTS = {
    "MNIST, 784-128-64-10, batch 64": Subject(
        mnist, {"hidden_layer_sizes": (128, 64), "batch_size": 64}, 5
    ),
    "digits 8x8, 64-100-10, batch 200": Subject(
        lambda seed: split(datasets.load_digits, seed), {}, 100
    ),
    "digits 8x8, 64-128-64-10, batch 64": Subject(
        lambda seed: split(datasets.load_digits, seed),
        {"hidden_layer_sizes": (128, 64), "batch_size": 64},
        100,
    ),
    "breast cancer, 30-100-1, batch 200": Subject(
        lambda seed: split(datasets.load_breast_cancer, seed), {}, 200
    ),
    "sparse texts, 20000-64-1, batch 64": Subject(
        emails, {"hidden_layer_sizes": (64,), "batch_size": 64}, 5
    ),
    "sparse texts, 20000-64-1, batch 200": Subject(emails, {"hidden_layer_sizes": (64,)}, 5),
    "sparse texts, 20000-128-1, batch 200": Subject(emails, {"hidden_layer_sizes": (128,)}, 5),
}


def fit(estimator: Any, data: Arrays, subject: Subject, seed: int, epochs: int) -> Fit:
    """Train for exactly so many epochs."""
    X, X_test, y, y_test = data
    model = estimator(
        **subject.parameters, max_iter=epochs, n_iter_no_change=epochs, tol=0, random_state=seed
    )
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    assert model.n_iter_ == epochs, "both must train for the same number of epochs"
    return Fit(seconds, model.score(X_test, y_test))


def measure(subject: Subject, seeds: int, epochs: int) -> list[tuple[Fit, Fit]]:
    """Return ours and scikit-learn's, for every seed."""
    pairs = []
    for seed in range(seeds):
        data = subject.load(seed)
        turns = [MLPClassifier, neural_network.MLPClassifier]
        order = turns if seed % 2 == 0 else turns[::-1]
        fits = {estimator: fit(estimator, data, subject, seed, epochs) for estimator in order}
        pairs.append((fits[turns[0]], fits[turns[1]]))
    return pairs


def row(name: str, threads: int, epochs: int, pairs: list[tuple[Fit, Fit]]) -> str:
    """Return a line of the table: medians, the range of the ratios, accuracies."""
    ratios = [theirs.seconds / ours.seconds for ours, theirs in pairs]
    cells = [name, str(threads), str(epochs)]
    for side in (0, 1):
        cells.append(f"{statistics.median(pair[side].seconds for pair in pairs):.3g}")
    cells.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    for side in (0, 1):
        accuracies = [100 * pair[side].accuracy for pair in pairs]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        cells.append(f"{statistics.mean(accuracies):.2f} ± {spread:.2f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="for all data sets")
    parser.add_argument("--only", default="", help="data sets whose name contains it")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    cores = os.sched_getaffinity(0)
    print(
        f"{cpu_model()}, scikit-learn {sklearn.__version__}, torch {torch.__version__}, "
        f"{pyfastnn.active_isa()}, commit {commit()}, {options.seeds} seeds\n\n"
        "| data, network | threads | epochs | pyfastnn, s | scikit-learn, s | ratio (range) "
        "| accuracy, % | scikit-learn's, % |\n|---|---|---|---|---|---|---|---|"
    )
    for name, subject in SUBJECTS.items():
        if options.only not in name:
            continue
        for threads in options.threads:
            os.sched_setaffinity(0, pick_cores(threads))
            torch.set_num_threads(threads)
            epochs = options.epochs or subject.epochs
            with threadpool_limits(threads):
                fit(MLPClassifier, subject.load(0), subject, 0, 1)  # first calls load code
                pairs = measure(subject, options.seeds, epochs)
            print(row(name, threads, epochs, pairs), flush=True)
            os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    main()
