"""Our modules beside the PyTorch modules they stand in for, with the same parameters."""

import copy
from typing import NamedTuple

import pytest
import torch
from cases import hand_written_network
from torch import Tensor, nn

import pyfastnn
from pyfastnn import MLP, LinearReLU

SIZES = [5, 7, 6, 3]


class PlainLinearReLU(nn.Linear):
    """What a user of PyTorch writes in place of ``LinearReLU``."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(super().forward(input))


class Pair(NamedTuple):
    """Two modules that must behave alike, and an input."""

    ours: nn.Module
    theirs: nn.Module
    x: Tensor


def layers(dtype: torch.dtype = torch.float64) -> Pair:
    torch.manual_seed(0)
    return with_input(LinearReLU(5, 6, dtype=dtype), PlainLinearReLU(5, 6, dtype=dtype))


def networks(dtype: torch.dtype = torch.float64) -> Pair:
    torch.manual_seed(0)
    return with_input(MLP(SIZES, dtype=dtype), hand_written_network(SIZES, dtype=dtype))


def fused(dtype: torch.dtype = torch.float64) -> Pair:
    torch.manual_seed(0)
    theirs = hand_written_network(SIZES, dtype=dtype)
    return with_input(pyfastnn.fuse(copy.deepcopy(theirs)), theirs)


def with_input(ours: nn.Module, theirs: nn.Module) -> Pair:
    theirs.load_state_dict(ours.state_dict())
    return Pair(ours, theirs, torch.randn(9, 5, dtype=next(ours.parameters()).dtype))


PAIRS = pytest.mark.parametrize("make_pair", [layers, networks, fused])
# Exporters see the operators in these; of `fuse` they see the forward as it was written.
MODULES = pytest.mark.parametrize("make_pair", [layers, networks])


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of the input and of all parameters, from a backward that starts with none."""
    leaf = x.detach().clone().requires_grad_()
    model.zero_grad()
    model(leaf).square().sum().backward()
    return [leaf.grad, *(p.grad for p in model.parameters())]
