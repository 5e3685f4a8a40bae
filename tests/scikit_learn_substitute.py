"""Plugin for pytest: tests that import scikit-learn's networks are given pyfastnn's."""

from sklearn import neural_network

from pyfastnn.sklearn import MLPClassifier, MLPRegressor

neural_network.MLPClassifier = MLPClassifier
neural_network.MLPRegressor = MLPRegressor
