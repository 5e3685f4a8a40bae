"""The parts of the e-mail example, one job each; `examples/spam.py` puts them together."""
