"""Refuse to load beside a scikit-learn that is missing, or has other insides than we replace."""

import importlib
import inspect

# What scikit-learn calls and pyfastnn replaces. Under another name, or called in another way, it
# would not be called, and scikit-learn would train with its own arithmetic without a word.
_REPLACED = {
    "_fit_stochastic": (
        "self",
        "X",
        "y",
        "sample_weight",
        "activations",
        "deltas",
        "coef_grads",
        "intercept_grads",
        "layer_units",
        "incremental",
    ),
    "_forward_pass_fast": ("self", "X", "check_input"),
}
_CALLED = ("_score", "_validate_params", "_parameter_constraints", "_fit_lbfgs")


def check_packages() -> None:
    """Check that scikit-learn and tqdm are installed, and that scikit-learn is one we know.

    Raises:
        ImportError: if not; the message says what to install.
    """
    try:
        importlib.import_module("tqdm")
        version = importlib.import_module("sklearn").__version__
        networks = importlib.import_module("sklearn.neural_network")
    except ImportError as error:
        raise ImportError(
            f"pyfastnn.sklearn needs scikit-learn and tqdm ({error}): "
            "pip install 'pyfastnn[sklearn]'"
        ) from error
    for estimator in (networks.MLPClassifier, networks.MLPRegressor):
        has = {
            name: tuple(inspect.signature(getattr(estimator, name)).parameters)
            for name in _REPLACED
            if hasattr(estimator, name)
        }
        if has != _REPLACED or not all(hasattr(estimator, name) for name in _CALLED):
            raise ImportError(
                f"pyfastnn.sklearn cannot work with scikit-learn {version}, whose estimators are "
                "built in another way: pip install 'pyfastnn[sklearn]'"
            )
