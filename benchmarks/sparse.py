"""Times of a sparse first layer: ours on sparse rows, ours on dense ones, torch, scikit-learn.

``python -m benchmarks.sparse`` prints two Markdown tables: forward and backward of one layer (ReLU
included; gradients of weight and bias), and whole training steps of a network. All take turns,
round by round, in one process that is pinned to so many cores as there are threads; in its turn a
call is repeated for 20 ms, after one that warms the caches, and a cell is the median of the rounds.
scikit-learn's layer is what its MLPClassifier does for one, on float32: SciPy's products, and the
penalty and the mean of the gradient, which are part of its method.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.utils.extmath import safe_sparse_dot
from threadpoolctl import threadpool_limits
from torch import nn

import pyfastnn
from benchmarks.machine import commit, cpu_model, pick_cores
from benchmarks.texts import COLUMNS, texts
from pyfastnn.functional import linear_relu

SAMPLE_SECONDS = 0.02
Calls = dict[str, Callable[[], object]]


def as_csr(X: Any) -> torch.Tensor:
    """Return torch's CSR tensor in the memory of SciPy's."""
    arrays = [torch.from_numpy(array) for array in (X.indptr, X.indices, X.data)]
    return torch.sparse_csr_tensor(*arrays, X.shape)


def layer_calls(X: Any, out: int) -> Calls:
    """Return the contestants for one layer."""
    weight = (torch.randn(out, COLUMNS) / 100).requires_grad_()
    by_columns = weight.detach().t().contiguous().requires_grad_()  # [in, out]
    bias = torch.zeros(out, requires_grad=True)
    grad = torch.randn(X.shape[0], out)
    dense, csr = torch.from_numpy(X.toarray()), as_csr(X)
    full = torch.rand_like(dense)  # dense rows whose zeros are not left out: they have none
    coef, intercept, delta = by_columns.detach().numpy(), bias.detach().numpy(), grad.numpy()

    def ours(x: Any, w: torch.Tensor) -> object:
        return torch.autograd.grad(linear_relu(x, w, bias), [w, bias], grad)

    def torch_sparse() -> object:
        y = torch.relu(torch.addmm(bias, csr, by_columns))
        return torch.autograd.grad(y, [by_columns, bias], grad)

    def scipy_delta() -> Any:
        z = safe_sparse_dot(X, coef)
        z += intercept
        np.maximum(z, 0, out=z)
        masked = delta.copy()
        masked[z == 0] = 0
        return masked

    def scipy() -> object:
        masked = scipy_delta()
        return safe_sparse_dot(X.T, masked), masked.sum(0)

    estimator = MLPClassifier()
    estimator.coefs_ = [coef]

    def scikit_learn() -> object:
        grads: list[Any] = [None], [None]
        estimator._compute_loss_grad(0, X.shape[0], [X], [scipy_delta()], *grads)
        return grads

    return {
        "sparse, [out, in]": lambda: ours(X, weight),
        "sparse, [in, out]": lambda: ours(X, by_columns.t()),
        "dense": lambda: ours(dense, weight),
        "no zeros": lambda: ours(full, weight),
        "torch sparse": torch_sparse,
        "SciPy's products": scipy,
        "scikit-learn": scikit_learn,
    }


def step_calls(X: Any, out: int) -> Calls:
    """Return training steps of a network with one hidden layer."""
    target = torch.arange(X.shape[0]) % 2
    dense = torch.from_numpy(X.toarray())

    def step(optimizer: type[torch.optim.Optimizer], x: Any, **options: Any) -> Any:
        model = pyfastnn.MLP([COLUMNS, out, 2])
        run = pyfastnn.TrainStep(
            model, nn.CrossEntropyLoss(), optimizer(model.parameters(), lr=1e-3), **options
        )
        return lambda: run(x, target)

    return {
        "SGD, sparse": step(torch.optim.SGD, X),
        "SGD, dense": step(torch.optim.SGD, dense),
        "Adam, sparse": step(torch.optim.Adam, X),
        "Adam, lazy": step(torch.optim.Adam, X, sparse_update="lazy"),
        "Adam, dense": step(torch.optim.Adam, dense),
    }


def milliseconds(calls: Calls, rounds: int) -> dict[str, float]:
    """Return the median time of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < SAMPLE_SECONDS:
                call()
                count += 1
            times[name].append(1e3 * passed / count)
    return {name: statistics.median(values) for name, values in times.items()}


def rows_of(calls: Callable[[Any, int], Calls], options: argparse.Namespace) -> Iterator[str]:
    """Measure, and yield the lines of a table."""
    cores = os.sched_getaffinity(0)
    for index, (threads, out, batch) in enumerate(
        (t, n, m) for t in options.threads for n in options.out for m in options.batches
    ):
        X, _ = texts(batch, 0, np.float32)
        os.sched_setaffinity(0, pick_cores(threads))
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            times = milliseconds(calls(X, out), options.rounds)
        os.sched_setaffinity(0, cores)
        if index == 0:
            names = ["threads", "out", "rows", "entries a row", *times]
            yield "| " + " | ".join(names) + " |\n|" + "---|" * len(names)
        cells = [threads, out, batch, round(X.nnz / batch), *(f"{t:.3g}" for t in times.values())]
        yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Measure everything and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 200, 1024])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Sparse")  # CSR is in beta; invariants are not checked
    print(
        f"{cpu_model()}, torch {torch.__version__}, {pyfastnn.active_isa()}, commit {commit()}, "
        f"{COLUMNS} columns, float32, milliseconds"
    )
    for title, calls in (("Forward and backward", layer_calls), ("Training step", step_calls)):
        print(f"\n{title}\n")
        for line in rows_of(calls, options):
            print(line, flush=True)


if __name__ == "__main__":
    main()
