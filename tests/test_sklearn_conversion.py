"""Networks of estimators become plain PyTorch, and those of scikit-learn become ours."""

import networks_of_sklearn as networks
import numpy as np
import pytest
import torch
from networks_of_sklearn import KINDS, outputs, pair
from sklearn.exceptions import NotFittedError
from torch import nn

from pyfastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_to_torch_is_a_plain_network_of_copies(kind):
    X, y = networks.data(kind)
    ours = pair(kind, hidden_layer_sizes=(12, 7))[0].fit(X, y)
    model = ours.to_torch()
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    z = model(torch.from_numpy(X)).detach()
    if kind == "multiclass":
        z = z.softmax(1)
    elif kind in ("binary", "multilabel"):
        z = z.sigmoid()
    want = outputs(ours, X)
    want = want[:, 1:] if kind == "binary" else want.reshape(len(X), -1)
    np.testing.assert_allclose(z.numpy(), want, rtol=1e-12)
    with torch.no_grad():
        model[0].weight.zero_()
    np.testing.assert_array_equal(outputs(ours, X).reshape(want.shape[0], -1)[:, -1], want[:, -1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"solver": "sgd", "momentum": 0}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_from_sklearn_predicts_the_same_and_goes_on_training(kind, parameters, dtype):
    X, y = networks.data(kind)
    X = X.astype(dtype)
    ours, theirs = pair(kind, **parameters)
    made = type(ours).from_sklearn(theirs.fit(X, y))
    assert made.get_params() == theirs.get_params() and made.loss_curve_ == theirs.loss_curve_
    close = {"rtol": 500 * np.finfo(dtype).eps, "atol": 50 * np.finfo(dtype).eps}
    np.testing.assert_allclose(outputs(made, X), outputs(theirs, X), **close)
    before = outputs(theirs, X)
    for _ in range(2):
        made.partial_fit(X, y)
    np.testing.assert_array_equal(outputs(theirs, X), before)
    for _ in range(2):
        theirs.partial_fit(X, y)
    np.testing.assert_allclose(outputs(made, X), outputs(theirs, X), **close)


def test_from_sklearn_takes_a_network_that_was_fitted_with_lbfgs():
    X, y = networks.data("binary")
    _, theirs = pair("binary", solver="lbfgs")
    made = MLPClassifier.from_sklearn(theirs.fit(X, y))
    np.testing.assert_allclose(made.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    assert made.set_params(solver="adam").fit(X, y).n_iter_ == 5


def test_from_sklearn_refuses_what_it_cannot_compute():
    X, y = networks.data("regression")
    with pytest.raises(TypeError, match="expected a MLPClassifier of scikit-learn, got MLPReg"):
        MLPClassifier.from_sklearn(pair("regression")[1])
    with pytest.raises(NotFittedError):
        MLPRegressor.from_sklearn(pair("regression")[1])
    for parameters in ({"activation": "tanh"}, {"loss": "poisson"}):
        with pytest.raises(ValueError, match="activation='relu' and no loss='poisson'"):
            MLPRegressor.from_sklearn(pair("regression", **parameters)[1].fit(X, np.abs(y)))
