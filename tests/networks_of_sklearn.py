"""Data and estimators that pyfastnn.sklearn is compared with."""

from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_multilabel_classification,
    make_regression,
)

from pyfastnn import sklearn as ours

Data = tuple[np.ndarray, np.ndarray]


def scaled(X: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)


def _scaled_targets(X: np.ndarray, y: np.ndarray) -> Data:
    return scaled(X), scaled(y)


def data(kind: str) -> Data:
    """Return features of about size 1 and targets, by the kind of problem."""
    if kind == "binary":
        X, y = load_breast_cancer(return_X_y=True)
        return scaled(X)[:330], y[:330]
    if kind == "multiclass":
        X, y = load_digits(return_X_y=True)
        return scaled(X)[:430], y[:430]
    if kind == "multilabel":
        X, y = make_multilabel_classification(330, random_state=0)
        return scaled(X), y
    if kind == "regression":
        return _scaled_targets(*load_diabetes(return_X_y=True))
    assert kind == "multioutput"
    return _scaled_targets(*make_regression(310, 20, n_targets=3, random_state=0))


KINDS = ["binary", "multiclass", "multilabel", "regression", "multioutput"]


def pair(kind: str, **parameters: Any) -> tuple[Any, Any]:
    """Return an estimator of ours and scikit-learn's, with the same parameters."""
    parameters = {"random_state": 0, "max_iter": 5} | parameters
    name = "MLPRegressor" if kind in ("regression", "multioutput") else "MLPClassifier"
    return getattr(ours, name)(**parameters), getattr(neural_network, name)(**parameters)


def outputs(estimator: Any, X: Any) -> np.ndarray:
    is_classifier = hasattr(estimator, "predict_proba")
    return estimator.predict_proba(X) if is_classifier else estimator.predict(X)


def classes(kind: str, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the first ``partial_fit`` must be told besides the data."""
    if kind in ("regression", "multioutput"):
        return {}
    return {"classes": np.arange(y.shape[1]) if kind == "multilabel" else np.unique(y)}
