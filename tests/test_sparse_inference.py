"""prepack and the estimators read sparse rows as they read dense ones."""

import pickle

import networks_of_sklearn as networks
import numpy as np
import pytest
import torch
from networks_of_sklearn import outputs, pair
from scipy import sparse
from sklearn.base import clone
from sparse_data import draw_rows
from tolerance import assert_same_bits
from torch import nn

import pyfastnn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("sizes", [(30, 4), (30, 16, 4), (30, 16, 8, 4)], ids=str)
def test_a_packed_network_gives_the_bits_of_its_model_on_sparse_rows(isa, dtype, sizes):
    x = draw_rows(20, 30, 9, dtype)
    model = pyfastnn.MLP(sizes, dtype=dtype)
    packed = pyfastnn.prepack(model)
    want = model(x.tensor()).detach()
    for network in (packed, pickle.loads(pickle.dumps(packed))):
        assert_same_bits(network(x.tensor()), want)
    assert_same_bits(packed(x.dense()), pyfastnn.prepack(model)(x.dense()))


def test_a_packed_network_takes_rows_of_scipy_and_a_flatten():
    x = draw_rows(20, 30, 9, torch.float32)
    packed = pyfastnn.prepack(nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.ReLU()))
    torch.testing.assert_close(packed(x.scipy()), packed(x.dense()))


def test_a_packed_network_that_takes_another_state_takes_it_for_sparse_rows_too():
    x = draw_rows(20, 30, 9, torch.float32)
    one, other = (pyfastnn.prepack(pyfastnn.MLP([30, 8, 4])) for _ in range(2))
    one(x.tensor())
    one.load_state_dict(other.state_dict())
    assert_same_bits(one(x.tensor()), other(x.tensor()))


def test_gradients_of_sparse_rows_are_refused_by_a_packed_network():
    packed = pyfastnn.prepack(pyfastnn.MLP([30, 8, 4]))
    x = draw_rows(3, 30, 9, torch.float32).tensor().requires_grad_()
    with pytest.raises(RuntimeError, match="expected input not to require grad"):
        packed(x)
    with torch.no_grad():
        assert packed(x).shape == (3, 4)


def refuse_to_densify(monkeypatch, columns):
    """Labels pass through sparse matrices in scikit-learn, with fewer columns."""
    for cls in (sparse.csr_array, sparse.csc_array):
        original = cls.toarray

        def toarray(self, *arguments, original=original, **options):
            assert self.shape[1] != columns, "a sparse matrix was made dense"
            return original(self, *arguments, **options)

        monkeypatch.setattr(cls, "toarray", toarray)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_estimators_never_make_sparse_rows_dense(monkeypatch, kind, early_stopping):
    X, y = networks.data(kind)
    X = sparse.csr_array(np.where(np.abs(X) > 0.7, X, 0))
    refuse_to_densify(monkeypatch, X.shape[1])
    ours, _ = pair(kind, early_stopping=early_stopping, n_iter_no_change=2)
    ours.fit(X, y)
    assert outputs(ours, X).shape[0] == len(y) and np.isfinite(ours.score(X, y))
    np.testing.assert_array_equal(outputs(ours, X), outputs(ours, X.tocsc()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_partial_fit_takes_sparse_and_dense_rows_in_turns(kind, dtype):
    X, y = networks.data(kind)
    X = np.where(np.abs(X) > 0.7, X, 0).astype(dtype)
    ours, _ = pair(kind)
    dense = clone(ours)
    known = networks.classes(kind, y)
    for turn in range(4):
        given = X if turn == 2 else sparse.csr_array(X)
        ours.partial_fit(given, y, **known)
        dense.partial_fit(X, y, **known)
    eps = np.finfo(dtype).eps
    for got, want in zip(ours.coefs_, dense.coefs_, strict=True):
        np.testing.assert_allclose(got, want, rtol=500 * eps, atol=50 * eps)


def test_coefficients_of_either_order_predict_the_same():
    X, y = networks.data("multiclass")
    X = sparse.csr_array(np.where(np.abs(X) > 0.7, X, 0))
    ours, _ = pair("multiclass")
    want = outputs(ours.fit(X, y), X)
    for order in "CF":
        ours.coefs_ = [np.array(coef, order=order) for coef in ours.coefs_]
        np.testing.assert_allclose(outputs(ours, X), want, rtol=1e-12)


def test_weights_stay_in_place_while_sparse_and_dense_rows_take_turns():
    X, y = networks.data("binary")
    X = np.where(np.abs(X) > 0.7, X, 0)
    ours, _ = pair("binary", random_state=1)
    ours.partial_fit(sparse.csr_array(X), y, classes=[0, 1])
    assert all(coef.flags.c_contiguous for coef in ours.coefs_)
    before = list(ours.coefs_)
    ours.partial_fit(X, y)
    assert all(map(np.shares_memory, ours.coefs_, before))
