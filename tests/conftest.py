"""Fixtures: every test that takes ``isa`` runs once on each instruction set of this machine."""

from collections.abc import Iterator

import pytest
import torch
from cases import DTYPES

import pyfastnn
from pyfastnn import training


@pytest.fixture(params=pyfastnn.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with pyfastnn.force_isa(request.param):
        yield request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread, so that the suite shares a machine well; test_bits.py and others ask for more."""
    torch.set_num_threads(1)


@pytest.fixture(params=["engine", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How TrainStep computes: in the engine, or as on CUDA devices, with torch's operations."""
    if request.param == "torch":
        monkeypatch.setattr(training, "runs_on_torch", lambda parameter: True)
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """For tests that change the number of threads: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
