"""Every test of this folder needs nvcc."""

import pytest


@pytest.fixture(autouse=True)
def _needs_nvcc(nvcc):
    pass
