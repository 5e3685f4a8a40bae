"""Benchmarks of pyfastnn against other libraries: see README.md in this folder."""
