"""Estimators train as scikit-learn's do: same weights, losses and scores up to rounding."""

import warnings

import networks_of_sklearn as networks
import numpy as np
import pytest
import torch
from networks_of_sklearn import KINDS, outputs, pair
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from pyfastnn.sklearn import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Rounding errors of some hundred steps, of numbers of about size 1.
CLOSE = {
    dtype: {"rtol": 500 * np.finfo(dtype).eps, "atol": 50 * np.finfo(dtype).eps}
    for dtype in (np.float32, np.float64)
}

SGD = {
    "plain": {"momentum": 0, "nesterovs_momentum": False},
    "momentum": {"momentum": 0.8, "nesterovs_momentum": False},
    "nesterov": {"alpha": 1.0},
    "invscaling": {"learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {"learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 9},
    "adaptive nesterov off": {
        "learning_rate": "adaptive",
        "tol": 10.0,
        "n_iter_no_change": 1,
        "nesterovs_momentum": False,
    },
}
VARIANTS = {
    "adam": {},
    "small epsilon matters": {"epsilon": 1e-3, "beta_1": 0.5, "beta_2": 0.9},
    "strong penalty": {"alpha": 30.0},
    "no penalty": {"alpha": 0},
    "small batches": {"batch_size": 7},
    "one hidden unit": {"hidden_layer_sizes": 1},
    "deep": {"hidden_layer_sizes": [16, 8, 4]},
    "in order": {"shuffle": False},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 12},
} | {f"sgd {name}": {"solver": "sgd", "learning_rate_init": 0.01} | p for name, p in SGD.items()}


def assert_same(ours, theirs, X, dtype=np.float64):
    close = CLOSE[dtype]
    assert ours.n_iter_ == theirs.n_iter_ and ours.t_ == theirs.t_
    for name in ("coefs_", "intercepts_"):
        for got, want in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert got.dtype == want.dtype == dtype and got.shape == want.shape
            np.testing.assert_allclose(got, want, **close, err_msg=name)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, **close)
    for name in ("best_loss_", "best_validation_score_", "loss_"):
        want = getattr(theirs, name)
        assert getattr(ours, name) == (want if want is None else pytest.approx(want, rel=1e-4))
    if theirs.validation_scores_ is None:
        assert ours.validation_scores_ is None
    else:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, **close)
    np.testing.assert_allclose(outputs(ours, X), outputs(theirs, X), **close)
    np.testing.assert_array_equal(ours.predict(X).shape, theirs.predict(X).shape)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_gives_the_weights_and_losses_of_scikit_learn(kind, variant):
    X, y = networks.data(kind)
    ours, theirs = pair(kind, **VARIANTS[variant])
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_data_are_trained_on_in_float32(kind, solver):
    X, y = networks.data(kind)
    X = X.astype(np.float32)
    ours, theirs = pair(kind, solver=solver)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X, np.float32)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_weights(kind, solver, early_stopping):
    X, y = networks.data(kind)
    weight = np.random.default_rng(0).integers(0, 3, len(X)) * 0.7
    ours, theirs = pair(kind, solver=solver, early_stopping=early_stopping, batch_size=50)
    ours.fit(X, y, sample_weight=weight)
    assert_same(ours, theirs.fit(X, y, sample_weight=weight), X)


def test_weights_of_a_batch_that_sum_to_zero_are_refused():
    X, y = networks.data("binary")
    ours, _ = pair("binary", batch_size=10, shuffle=False)
    with pytest.raises(ValueError, match="the sample weights of a batch sum to zero"):
        ours.fit(X, y, sample_weight=np.r_[np.ones(20), np.zeros(len(X) - 20)])


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_one_step_from_copied_weights(kind, solver):
    X, y = networks.data(kind)
    ours, theirs = pair(kind, solver=solver, shuffle=False, batch_size=40, alpha=0.1)
    for estimator in (ours, theirs):
        estimator.partial_fit(X[:40], y[:40], **networks.classes(kind, y))
    ours.coefs_ = [2 * coef for coef in theirs.coefs_]
    theirs.coefs_ = [2 * coef for coef in theirs.coefs_]
    for estimator in (ours, theirs):
        estimator.partial_fit(X[40:80], y[40:80])
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_weights_that_were_set_in_another_dtype_go_on(solver):
    X, y = networks.data("multiclass")
    ours, theirs = pair("multiclass", solver=solver, shuffle=False, batch_size=40)
    for estimator in (ours, theirs):
        estimator.partial_fit(X[:40].astype(np.float32), y[:40], classes=np.unique(y))
        estimator.coefs_ = [coef.astype(np.float64) for coef in estimator.coefs_]
        estimator.intercepts_ = [b.astype(np.float64) for b in estimator.intercepts_]
        estimator.partial_fit(X[40:80], y[40:80])
    for got, want in zip(ours.coefs_, theirs.coefs_, strict=True):
        assert got.dtype == want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)  # the first step was in float32


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_goes_on(kind, solver):
    X, y = networks.data(kind)
    ours, theirs = pair(kind, solver=solver, learning_rate="invscaling")
    weight = np.random.default_rng(0).random(len(X))
    for estimator in (ours, theirs):
        estimator.partial_fit(X[:70], y[:70], **networks.classes(kind, y))
        estimator.partial_fit(X[70:140], y[70:140])
        estimator.partial_fit(X, y, weight)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_warm_start_goes_on_from_the_last_weights(solver, early_stopping):
    X, y = networks.data("multiclass")
    ours, theirs = pair("multiclass", solver=solver, warm_start=True, early_stopping=early_stopping)
    for estimator in (ours, theirs):
        estimator.fit(X, y).fit(X[:300], y[:300])
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_sparse_data_train_as_dense_ones(kind, shuffle, container):
    X, y = networks.data(kind)
    X = np.where(np.abs(X) > 0.7, X, 0)
    weight = np.random.default_rng(0).random(len(X))
    ours, _ = pair(kind, shuffle=shuffle, batch_size=64)
    dense = clone(ours)
    ours.fit(container(X), y, sample_weight=weight)
    dense.fit(X, y, sample_weight=weight)
    for got, want in zip(ours.coefs_, dense.coefs_, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(ours.loss_curve_, dense.loss_curve_, rtol=1e-14)
    np.testing.assert_array_equal(outputs(ours, container(X)), outputs(dense, X))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("variant", ["strong penalty", "no penalty", "sgd plain", "sgd nesterov"])
def test_sparse_data_are_penalised_as_by_scikit_learn(variant, dtype):
    X, y = networks.data("multiclass")
    X = np.where(np.abs(X) > 0.7, X, 0).astype(dtype)
    ours, theirs = pair("multiclass", **VARIANTS[variant])
    assert_same(ours.fit(sparse.csr_array(X), y), theirs.fit(sparse.csr_array(X), y), X, dtype)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_sparse_fit_has_the_same_bits_with_any_number_of_threads(solver, threads):
    X = sparse.random_array((300, 4000), density=0.02, format="csr", rng=0)
    y = np.arange(300) % 3

    def fit(count):
        torch.set_num_threads(count)
        model = MLPClassifier((70,), solver=solver, alpha=1.0, max_iter=2, random_state=0)
        return model.fit(X, y)

    want = fit(1)
    for got in map(fit, (2, 3)):
        assert got.loss_curve_ == want.loss_curve_
        for ours, right in zip(got.coefs_, want.coefs_, strict=True):
            np.testing.assert_array_equal(ours, right)


def test_sparse_data_are_held_out_too():
    X, y = networks.data("multiclass")
    ours, theirs = pair("multiclass", early_stopping=True)
    assert_same(ours.fit(sparse.csr_array(X), y), theirs.fit(sparse.csr_array(X), y), X)


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, lambda X: X[:, ::-1][:, ::-1], lambda X: np.repeat(X, 2, axis=1)[:, ::2]],
    ids=["columns", "reversed twice", "every second"],
)
def test_any_layout_of_the_data(layout):
    X, y = networks.data("regression")
    ours, _ = pair("regression")
    plain = clone(ours).fit(X, y)
    ours.fit(layout(X), y)
    np.testing.assert_array_equal(ours.predict(layout(X)), plain.predict(X))


def test_data_that_cannot_be_written_are_used_as_they_are_and_without_a_warning():
    X, y = networks.data("regression")
    ours, theirs = pair("regression")
    X.flags.writeable = y.flags.writeable = False
    before = X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X, y).predict(X)
    assert_same(ours, theirs.fit(X, y), X)
    np.testing.assert_array_equal(X, before)


def test_a_learning_rate_that_vanishes_does_no_harm():
    X, y = networks.data("binary")
    ours, theirs = pair("binary", solver="sgd", learning_rate="invscaling", power_t=60.0)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)
