"""What the estimators refuse, what they warn of, and what pyfastnn.sklearn needs."""

import subprocess
import sys

import networks_of_sklearn as networks
import numpy as np
import pytest
from networks_of_sklearn import pair
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

from pyfastnn.sklearn import MLPRegressor
from pyfastnn.sklearn._epochs import Epochs
from pyfastnn.sklearn._required import check_packages

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "tanh"}, "'activation' parameter of MLP.* among {'relu'}. Got 'tanh'"),
        ({"solver": "lbfgs"}, "'solver' parameter of MLP.* among {.*}. Got 'lbfgs'"),
    ],
)
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_what_is_not_supported_is_named(kind, parameters, message):
    X, y = networks.data(kind)
    ours, _ = pair(kind, **parameters)
    with pytest.raises(ValueError, match=message):
        ours.fit(X, y)


def test_the_poisson_loss_is_refused():
    X, y = networks.data("regression")
    with pytest.raises(ValueError, match=r"'loss' parameter .* among {'squared_error'}"):
        MLPRegressor(loss="poisson").fit(X, np.abs(y))


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_parameter_that_becomes_unsupported_after_a_fit_is_not_ignored(kind):
    X, y = networks.data(kind)
    ours, _ = pair(kind)
    ours.fit(X, y).set_params(activation="tanh")
    for use in (lambda: ours.partial_fit(X, y), lambda: ours.predict(X)):
        with pytest.raises(ValueError, match=r"among {'relu'}\. Got 'tanh'"):
            use()


def test_partial_fit_with_another_solver_does_not_fall_back_to_scikit_learn():
    X, y = networks.data("regression")
    ours, _ = pair("regression")
    ours.fit(X, y).set_params(solver="lbfgs")
    with pytest.raises(ValueError, match="Got 'lbfgs'"):
        ours.partial_fit(X, y)


def test_other_classes_than_before_are_refused():
    X, y = networks.data("multiclass")
    ours, _ = pair("multiclass", warm_start=True, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        ours.fit(X, y)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        ours.fit(X, y % 5)


def test_numbers_that_overflow_are_refused():
    X, y = networks.data("regression")
    ours, _ = pair("regression")
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        ours.fit(X * 1e200, y)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_diverging_fit_has_scores_that_are_not_numbers():
    X, y = networks.data("regression")
    ours = MLPRegressor(
        solver="sgd", learning_rate_init=1e3, early_stopping=True, max_iter=20, random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        ours.fit(X, y)
    assert np.isnan(ours.validation_scores_[-1])


def test_a_fit_that_has_not_converged_warns_at_the_line_that_called_it():
    X, y = networks.data("binary")
    with pytest.warns(ConvergenceWarning, match="max_iter=5") as caught:
        pair("binary")[0].fit(X, y)
    assert caught[0].filename == __file__


def test_a_batch_that_is_too_large_warns_and_is_clipped():
    X, y = networks.data("binary")
    ours, theirs = pair("binary", batch_size=1000, tol=10.0, n_iter_no_change=1)
    with pytest.warns(UserWarning, match="batch_size=1000 is more than the 330 rows"):
        ours.fit(X, y)
    with pytest.warns(UserWarning):
        theirs.fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)


def test_ctrl_c_ends_training_and_keeps_what_was_learnt(monkeypatch):
    X, y = networks.data("binary")
    ours, _ = pair("binary")
    run, losses = Epochs.run, []

    def interrupted(self, order):
        if len(losses) == 2:
            raise KeyboardInterrupt
        losses.append(run(self, order))
        return losses[-1]

    monkeypatch.setattr(Epochs, "run", interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        ours.fit(X, y)
    assert ours.n_iter_ == 2 and ours.loss_curve_ == losses


def test_pyfastnn_does_not_import_scikit_learn():
    code = "import sys, pyfastnn; print({'pandas', 'scipy', 'sklearn'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("package", ["sklearn", "tqdm"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}.*pip install 'pyfastnn\[sklearn\]'"):
        check_packages()


def test_a_scikit_learn_that_would_not_call_our_code_is_refused(monkeypatch):
    base = neural_network.MLPClassifier.__mro__[2]
    monkeypatch.setattr(base, "_fit_stochastic", lambda self, X, y: None)
    with pytest.raises(ImportError, match="cannot work with scikit-learn 1"):
        check_packages()
    monkeypatch.delattr(base, "_fit_stochastic")
    with pytest.raises(ImportError, match="cannot work with scikit-learn 1"):
        check_packages()
