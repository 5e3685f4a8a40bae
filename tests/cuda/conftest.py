"""Puts this folder on the path (``import ptx``) and skips, loudly, what needs nvcc."""

import pytest
from ptx import NOT_RUN, find_nvcc


@pytest.fixture(scope="session")
def nvcc() -> str:
    """The compiler; where it is missing, tests that take it are skipped with the reason."""
    found = find_nvcc()
    if found is None:
        pytest.skip(NOT_RUN)
    return found
