"""The estimators: scikit-learn's, with another way of computing."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import torch
from scipy import sparse
from sklearn import neural_network
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from pyfastnn import functional
from pyfastnn.sklearn._arrays import Array, as_tensor, float_dtype, weight_to_read
from pyfastnn.sklearn._fitting import Fitting
from pyfastnn.sklearn._solver import Solver, adopt

_SUPPORTED = {"activation": [StrOptions({"relu"})], "solver": [StrOptions({"adam", "sgd"})]}


class _Network(Fitting):
    """What both estimators do in another way than scikit-learn's."""

    _theirs: ClassVar[Any]  # the estimator of scikit-learn

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> Array:
        """Apply the network; scikit-learn's predictions and scores call this."""
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        if self.activation != "relu":  # changed after the fit
            self._validate_params()
        dtype = float_dtype(X.dtype, self.coefs_[0].dtype)
        # Nothing is kept between calls: whoever changes coefs_ changes the predictions.
        weights = [weight_to_read(coef, dtype) for coef in self.coefs_]
        biases = [as_tensor(intercept, dtype) for intercept in self.intercepts_]
        with torch.inference_mode():
            is_sparse = sparse.issparse(X)
            x = X.tocsr().astype(dtype, copy=False) if is_sparse else as_tensor(X, dtype)
            z = functional.mlp(x, weights, biases)
            if self.out_activation_ == "softmax":
                z = torch.softmax(z, 1)
            elif self.out_activation_ == "logistic":
                z = torch.sigmoid(z)
            output: Array = z.numpy()
        return output

    def to_torch(self: Any) -> nn.Sequential:
        """Return the fitted network as plain PyTorch.

        Returns:
            ``nn.Sequential`` of ``nn.Linear`` and ``nn.ReLU`` with copies of the weights, float32
            or float64 like ``coefs_``. The last activation is left out, as losses and
            :class:`pyfastnn.TrainStep` expect it: of a classifier's outputs, logits,
            ``torch.softmax(z, 1)`` (more than two classes) or ``torch.sigmoid(z)`` (two classes:
            one column; several labels) are the probabilities. A regressor's outputs are the
            predictions.

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
        """
        check_is_fitted(self)
        layers: list[nn.Module] = []
        for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True):
            layer = nn.Linear(coef.shape[0], coef.shape[1], device="meta")
            layer.weight = nn.Parameter(as_tensor(coef.T).clone())
            layer.bias = nn.Parameter(as_tensor(intercept).clone())
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Take over a fitted estimator of scikit-learn: parameters, weights, state of the solver.

        Args:
            estimator: a fitted estimator of the same kind with ``activation="relu"``, which is not
                changed. One that was fitted with ``solver="lbfgs"`` can predict, and be fitted
                again once the solver is another.

        Returns:
            An estimator that predicts the same up to rounding, and whose ``partial_fit`` goes on
            where ``estimator`` has stopped.

        Raises:
            TypeError: if it is another kind of estimator.
            ValueError: for another activation or loss.
            sklearn.exceptions.NotFittedError: if it has not been fitted.
        """
        if not isinstance(estimator, cls._theirs):
            raise TypeError(
                f"from_sklearn: expected a {cls._theirs.__name__} of scikit-learn, "
                f"got {type(estimator).__name__}"
            )
        check_is_fitted(estimator)
        if estimator.activation != "relu" or estimator.out_activation_ == "exp":
            raise ValueError(
                f"from_sklearn: expected activation='relu' and no loss='poisson', got {estimator!r}"
            )
        state = copy.deepcopy(vars(estimator))
        if not isinstance(state.get("_optimizer"), Solver | None):
            state["_optimizer"] = adopt(state["_optimizer"], estimator.coefs_[0].dtype)
        made = cls(**estimator.get_params(deep=False))
        vars(made).update(state)
        return made


class MLPClassifier(_Network, neural_network.MLPClassifier):  # type: ignore[misc]
    """``sklearn.neural_network.MLPClassifier`` with ``activation="relu"``, trained by pyfastnn.

    A subclass of scikit-learn's: same parameters, methods, attributes and errors, and up to
    rounding the same weights from the same seed. Two classes, more classes, or several labels (a
    matrix of 0 and 1); ``fit``, ``partial_fit``, ``predict``, ``predict_proba``,
    ``predict_log_proba`` and ``score``. float32 data are trained on in float32, all others in
    float64. Of sparse matrices of
    SciPy the entries alone are read: they are never made dense.

    Args:
        hidden_layer_sizes: features of every hidden layer.
        activation: ``"relu"``; anything else raises ``ValueError``.
        solver: ``"adam"`` or ``"sgd"``; anything else raises ``ValueError``.
        alpha: strength of the L2 penalty, ``alpha / (2 n)`` times the sum of all squared weights,
            n the rows of the batch (with ``sample_weight`` the sum of theirs).
        batch_size: rows of a batch; ``"auto"``: 200, or all rows if there are fewer.
        learning_rate: ``"constant"``, ``"invscaling"`` or ``"adaptive"``, for SGD.
        learning_rate_init: the learning rate at the start.
        power_t: the exponent of ``"invscaling"``.
        max_iter: the largest number of epochs.
        shuffle: whether every epoch takes the rows in a new order.
        random_state: seed of the initial weights, of the orders and of the validation set. The same
            seed gives the weights and orders that it gives in scikit-learn.
        tol: what counts as an improvement of the loss, or of the validation score.
        verbose: show a progress bar with the loss.
        warm_start: let ``fit`` start from the last solution.
        momentum: of SGD.
        nesterovs_momentum: whether it is Nesterov's.
        early_stopping: hold out ``validation_fraction`` of the rows, stop when the score on them no
            longer improves, and keep the best weights.
        validation_fraction: the part that is held out.
        beta_1, beta_2, epsilon: of Adam.
        n_iter_no_change: epochs without an improvement after which training stops.
        max_fun: of L-BFGS in scikit-learn; without effect here.

    Attributes:
        coefs_, intercepts_: weights ``[in, out]`` and biases ``[out]`` of every layer. Predictions
            read them anew each time.
        classes_: the labels, in the order of ``predict_proba``.
        loss_, best_loss_, loss_curve_: the loss of the last epoch, the lowest, and all.
        validation_scores_, best_validation_score_: with ``early_stopping``, else None.
        n_iter_, t_: epochs of the last ``fit``; rows trained on since the first.
        n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: as in
            scikit-learn.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(max_iter=500, random_state=0).fit(X, y)
        >>> model.predict_proba(X).shape
        (150, 3)
    """

    _theirs = neural_network.MLPClassifier
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        **_SUPPORTED,
    }


class MLPRegressor(_Network, neural_network.MLPRegressor):  # type: ignore[misc]
    """``sklearn.neural_network.MLPRegressor`` with ``activation="relu"``, trained by pyfastnn.

    As :class:`MLPClassifier`, for one target or several. The loss is half the squared error.

    Args:
        loss: ``"squared_error"``; ``"poisson"`` raises ``ValueError``.

    The other arguments, and the attributes but for ``classes_``, are those of
    :class:`MLPClassifier`.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = MLPRegressor(learning_rate_init=0.1, random_state=0).fit(X, y)
        >>> model.predict(X).shape
        (442,)
    """

    _theirs = neural_network.MLPRegressor
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPRegressor._parameter_constraints,
        **_SUPPORTED,
        "loss": [StrOptions({"squared_error"})],
    }
