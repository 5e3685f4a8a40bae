"""Epochs of training over NumPy arrays and SciPy matrices, computed in C++."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from pyfastnn import _C
from pyfastnn.sklearn._arrays import (
    Array,
    as_tensor,
    csr_tensors,
    shared_bias,
    shared_weight,
)
from pyfastnn.sklearn._solver import Solver

# By out_activation_: the loss of C++ that goes with it, and the factor of its gradient.
_LOSSES = {
    "softmax": ("cross_entropy", 1.0),
    "logistic": ("bce_with_logits", 1.0),
    "identity": ("mse", 0.5),
}


class Rows(NamedTuple):
    """Data to train on or to score."""

    X: Any  # array or sparse matrix
    y: Array  # [rows, outputs]
    sample_weight: Array | None


class Epochs:
    """Trains the parameters of an estimator, an epoch at a time.

    Args:
        estimator: its ``coefs_`` and ``intercepts_`` are replaced by arrays with the same values
            that change as the training goes on; its ``_optimizer`` is made if it has none.
        data: what to train on.
        batch_size: rows of a batch.
    """

    def __init__(self, estimator: Any, data: Rows, batch_size: int) -> None:
        parameters = _share_parameters(estimator)
        if not hasattr(estimator, "_optimizer"):
            estimator._optimizer = Solver.start(estimator, parameters)
        self._solver: Solver = estimator._optimizer
        loss, self._loss_factor = _LOSSES[estimator.out_activation_]
        # C++ adds up the outputs of a row; scikit-learn's squared error is their mean.
        self._value_factor = 0.5 / data.y.shape[1] if loss == "mse" else 1.0
        self._plan: _C.TrainPlan = self._solver.plan(parameters, loss)
        self._dtype = estimator.coefs_[0].dtype
        self._X = _train_input(data.X, self._dtype)
        if loss == "cross_entropy":
            self._target = as_tensor(data.y.argmax(axis=1), np.int64)
        else:
            self._target = as_tensor(data.y, self._dtype)
        weights = data.sample_weight
        self._row_weights = None if weights is None else as_tensor(weights, self._dtype)
        self._batch_size = batch_size
        self._alpha = float(estimator.alpha)

    def run(self, order: Array | None) -> float:
        """Train on all rows once, in this order or as they lie.

        Returns:
            The loss, as scikit-learn defines it.
        """
        row_order = None if order is None else torch.from_numpy(order)
        loss, penalty = self._plan.fit_epoch(
            self._X,
            self._target,
            row_order,
            self._row_weights,
            self._batch_size,
            self._alpha,
            self._loss_factor,
            self._solver.rate,
        )
        return self._value_factor * loss + penalty


def _train_input(X: Any, dtype: npt.DTypeLike) -> Tensor | _C.TrainInput:
    if sparse.issparse(X):
        return _C.TrainInput(*csr_tensors(X, dtype), X.shape[1])
    return as_tensor(X, dtype)


def _share_parameters(estimator: Any) -> list[Tensor]:
    """Return weight 0, bias 0, weight 1, ... in the memory of the estimator's own arrays."""
    parameters: list[Tensor] = []
    coefs, intercepts = [], []
    for coef, intercept in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        weight, shared_coef = shared_weight(coef)
        bias, shared_intercept = shared_bias(intercept)
        parameters += [weight, bias]
        coefs.append(shared_coef)
        intercepts.append(shared_intercept)
    estimator.coefs_, estimator.intercepts_ = coefs, intercepts
    return parameters
