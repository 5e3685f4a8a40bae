"""Tests of unchanged libraries: `make test-clients`, in an environment that has them."""

import pytest
import torch

from benchmarks.clients import CLIENTS, Client


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS.keys())
def client(request: pytest.FixtureRequest) -> Client:
    return request.param
