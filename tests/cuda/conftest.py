"""Puts this folder on the path (``import ptx``) and skips, loudly, what needs nvcc."""

import pytest
from ptx import NOT_RUN, find_nvcc


@pytest.fixture(scope="session")
def nvcc() -> str:
    """The compiler; tests that take it are counted as skipped, with the reason, where it is missing."""
    found = find_nvcc()
    if found is None:
        pytest.skip(NOT_RUN)
    return found
