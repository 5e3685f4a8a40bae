"""scikit-learn's multi-layer perceptrons, trained and applied by pyfastnn's kernels.

:class:`MLPClassifier` and :class:`MLPRegressor` are subclasses of scikit-learn's estimators of the
same name. scikit-learn checks arguments, encodes labels and scores; pyfastnn computes. This module
is imported on demand and needs the extra ``pyfastnn[sklearn]``.

Example:
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from pyfastnn.sklearn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = MLPClassifier(hidden_layer_sizes=(128, 64), random_state=0).fit(X_train, y_train)
    >>> model.score(X_test, y_test) > 0.95
    True
"""

from pyfastnn.sklearn._required import check_packages

check_packages()

from pyfastnn.sklearn._estimators import MLPClassifier, MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]
