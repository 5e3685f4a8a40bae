"""Small networks and batches for the tests of explain_backward."""

import torch
from torch import Tensor, nn

import pyfastnn
from pyfastnn import BackwardTrace, explain_backward


def by_hand() -> tuple[nn.Sequential, Tensor]:
    """Return a network of which everything can be computed on paper."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([0.5, -3.0]))
        model[2].weight.copy_(torch.tensor([[2.0, -1.0]]))
        model[2].bias.zero_()
    return model, torch.tensor([[1.0, 2.0], [3.0, -1.0]])


def total(output: Tensor, target: Tensor | None) -> Tensor:
    return output.sum()


def digits(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(32, 20, generator=generator), torch.arange(32) % 3


def network(**options) -> pyfastnn.MLP:
    torch.manual_seed(0)
    return pyfastnn.MLP([20, 30, 10, 3], **options)


def trace_of(model: nn.Module, **options) -> BackwardTrace:
    return explain_backward(model, *digits(), nn.CrossEntropyLoss(), **options)
