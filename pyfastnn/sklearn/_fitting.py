"""What scikit-learn does between the epochs: batches, shuffling, schedules, stopping."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from pyfastnn.sklearn._epochs import Epochs, Rows

_LARGEST_AUTO_BATCH = 200


class Fitting:
    """The part of an estimator that trains."""

    def _fit_stochastic(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        activations: Any,
        deltas: Any,
        coef_grads: Any,
        intercept_grads: Any,
        layer_units: Any,
        incremental: bool,
    ) -> None:
        """Train the initialised network; scikit-learn calls this from fit and partial_fit."""
        self._check_supported()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        train, held_out = Rows(X, y, sample_weight), None
        if self.early_stopping:
            train, held_out = self._hold_out(train)
        if not incremental:
            vars(self).pop("_optimizer", None)
        with torch.inference_mode(False):  # C++ takes no parameters that were made in it
            epochs = Epochs(self, train, self._rows_of_batch(train))
            try:
                self._run_epochs(epochs, train.y.shape[0], held_out, incremental)
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=5)
        if held_out is not None:
            self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts

    def _fit_lbfgs(self: Any, *arguments: Any) -> None:
        self._check_supported()

    def _check_supported(self: Any) -> None:
        """Raise for parameters that were changed after a fit: partial_fit does not look again."""
        is_known = self.activation == "relu" and self.solver in ("adam", "sgd")
        if not is_known or self.loss == "poisson":
            self._validate_params()

    def _run_epochs(
        self: Any, epochs: Epochs, rows: int, held_out: Rows | None, incremental: bool
    ) -> None:
        limit = 1 if incremental else self.max_iter
        order = np.arange(rows)
        self.n_iter_ = 0
        with tqdm(
            total=limit, desc="Iteration", file=sys.stdout, disable=not self.verbose
        ) as progress:
            for _ in range(limit):
                if self.shuffle:
                    # scikit-learn's own order: it shuffles what it has shuffled before.
                    order = order[self._random_state.permutation(rows)]
                self.loss_ = epochs.run(order if self.shuffle else None)
                self.loss_curve_.append(self.loss_)
                self.n_iter_ += 1
                self.t_ += rows
                self._judge(held_out)
                self._optimizer.end_epoch(self.t_)
                self._show(progress)
                if self._no_improvement_count > self.n_iter_no_change:
                    if not self._optimizer.slow_down():
                        return
                    self._no_improvement_count = 0
        if not incremental:
            warnings.warn(
                f"{type(self).__name__}: training ended after max_iter={limit} epochs without "
                "having converged",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _judge(self: Any, held_out: Rows | None) -> None:
        """Count the epochs in a row that did not improve the loss, or the score, by ``tol``."""
        if held_out is None:
            stalls = self.loss_ > self.best_loss_ - self.tol
            if self.loss_ < self.best_loss_:
                self.best_loss_ = self.loss_
        else:
            score = self._score(held_out.X, held_out.y, sample_weight=held_out.sample_weight)
            self.validation_scores_.append(score)
            stalls = score < self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_ = score
                self._best_coefs = [coef.copy("K") for coef in self.coefs_]
                self._best_intercepts = [intercept.copy() for intercept in self.intercepts_]
        self._no_improvement_count = self._no_improvement_count + 1 if stalls else 0

    def _show(self: Any, progress: Any) -> None:
        if not self.verbose:
            return
        shown = {"loss": f"{self.loss_:.6f}"}
        if self.validation_scores_:
            shown["validation score"] = f"{self.validation_scores_[-1]:.4f}"
        progress.set_postfix(shown, refresh=False)
        progress.update()

    def _hold_out(self: Any, data: Rows) -> tuple[Rows, Rows]:
        """Split off the rows that decide when to stop."""
        arrays = [array for array in data if array is not None]
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=data.y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        without_weights = [None] * (len(data) - len(arrays))
        train = Rows(*parts[::2], *without_weights)
        held_out = Rows(*parts[1::2], *without_weights)
        if held_out.y.shape[0] < 2:
            raise ValueError(
                f"The validation set is too small, it has {held_out.y.shape[0]} rows: increase "
                "validation_fraction, or fit more rows"
            )
        if is_classifier(self):
            held_out = held_out._replace(y=self._label_binarizer.inverse_transform(held_out.y))
        return train, held_out

    def _rows_of_batch(self: Any, data: Rows) -> int:
        rows: int = data.y.shape[0]
        if self.batch_size == "auto":
            return min(_LARGEST_AUTO_BATCH, rows)
        if self.batch_size > rows:
            warnings.warn(
                f"batch_size={self.batch_size} is more than the {rows} rows there are, and becomes "
                f"{rows}",
                stacklevel=6,
            )
        return min(int(self.batch_size), rows)
