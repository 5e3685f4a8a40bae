"""Estimators are at home in scikit-learn: its checks, pipelines, searches, files, errors."""

import copy
import io
import pickle

import joblib
import networks_of_sklearn as networks
import numpy as np
import pandas as pd
import pytest
from networks_of_sklearn import pair
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyfastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


def test_parameters_and_their_defaults_are_those_of_scikit_learn():
    for kind in ("binary", "regression"):
        ours, theirs = pair(kind)
        assert ours.get_params() == theirs.get_params()
        assert repr(ours) == repr(theirs)


def test_in_pipelines_searches_and_cross_validation_in_other_processes():
    X, y = networks.data("multiclass")
    ours, theirs = (make_pipeline(StandardScaler(), e) for e in pair("multiclass"))
    scores = [cross_val_score(e, X, y, cv=2, n_jobs=2) for e in (ours, theirs)]
    np.testing.assert_array_equal(*scores)
    name = "mlpclassifier__hidden_layer_sizes"
    search = GridSearchCV(ours, {name: [(8,), (50, 20)]}, cv=2).fit(X, y)
    assert search.best_params_ == {name: (50, 20)}


def saved_by_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def saved_by_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return joblib.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("save", [saved_by_pickle, saved_by_joblib, copy.deepcopy])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_saved_estimator_predicts_the_same_and_goes_on_training(solver, save):
    X, y = networks.data("multiclass")
    ours = pair("multiclass", solver=solver)[0].fit(X, y)
    loaded = save(ours)
    np.testing.assert_array_equal(loaded.predict_proba(X), ours.predict_proba(X))
    before = ours.predict_proba(X)
    loaded.partial_fit(X, y)
    np.testing.assert_array_equal(ours.predict_proba(X), before)
    ours.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), ours.predict_proba(X))


def test_a_file_that_is_mapped_into_memory_can_be_trained_on(tmp_path):
    X, y = networks.data("regression")
    ours = pair("regression")[0].fit(X, y)
    joblib.dump(ours, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not mapped.coefs_[0].flags.writeable
    np.testing.assert_array_equal(mapped.predict(X), ours.predict(X))
    np.testing.assert_array_equal(mapped.partial_fit(X, y).loss_, ours.partial_fit(X, y).loss_)


def test_a_clone_has_the_parameters_and_nothing_else():
    X, y = networks.data("binary")
    ours = pair("binary", alpha=0.5)[0].fit(X, y)
    copied = clone(ours)
    assert copied.get_params() == ours.get_params() and not hasattr(copied, "coefs_")


def test_names_of_features_and_classes():
    X, y = networks.data("binary")
    names = [f"feature {i}" for i in range(X.shape[1])]
    ours, _ = pair("binary", early_stopping=True)
    ours.fit(pd.DataFrame(X, columns=names), np.where(y == 1, "spam", "ham"))
    assert list(ours.feature_names_in_) == names
    assert list(ours.classes_) == ["ham", "spam"]
    assert set(ours.predict(pd.DataFrame(X, columns=names))) == {"ham", "spam"}


def test_weights_that_somebody_changes_count_at_once():
    X, y = networks.data("regression")
    ours = pair("regression")[0].fit(X, y)
    before = ours.predict(X)
    ours.intercepts_[-1] += 1
    np.testing.assert_allclose(ours.predict(X), before + 1)
    ours.coefs_ = [np.zeros(coef.shape) for coef in ours.coefs_]
    np.testing.assert_array_equal(ours.predict(X), np.full(len(X), ours.intercepts_[-1][0]))


def test_predictions_of_float32_weights_have_the_precision_of_the_data():
    X, y = networks.data("regression")
    ours, theirs = (e.fit(X.astype(np.float32), y) for e in pair("regression"))
    for dtype in (np.float32, np.float64, np.int64):
        assert ours.predict(X.astype(dtype)).dtype == theirs.predict(X.astype(dtype)).dtype


def test_verbose_shows_a_progress_bar_with_loss_and_score(capsys):
    X, y = networks.data("binary")
    ours = pair("binary", verbose=True, early_stopping=True)[0].fit(X, y)
    shown = capsys.readouterr().out
    assert "Iteration" in shown and "5/5" in shown
    assert f"loss={ours.loss_:.6f}" in shown
    assert f"validation score={ours.validation_scores_[-1]:.4f}" in shown


def test_nothing_is_shown_without_verbose(capsys):
    X, y = networks.data("binary")
    pair("binary")[0].fit(X, y)
    assert capsys.readouterr() == ("", "")
