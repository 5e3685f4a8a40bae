"""Compares two trainings loss by loss: how far rounding may drive them apart is measured.

Training amplifies rounding, each model in its own way and with time, so no tolerance fits all.
Therefore plain PyTorch is trained again while each parameter is moved by one rounding error, up or
down or not at all, after every round. The fused training may go as far from plain PyTorch as a
small multiple of what these trainings do.
"""

import torch
from torch import Tensor, nn

from benchmarks.clients import Client

ROUNDING = torch.finfo(torch.float32).eps
NUDGED_RUNS = 3
MULTIPLE = 4  # the largest of three runs is no upper bound of rounding
LOSS_ITSELF = 8  # rounding errors within the computation of one loss


def curve(client: Client, fused: bool, nudges: torch.Generator | None = None) -> Tensor:
    """Return the losses of a training from the start."""
    run = client.make(fused)
    losses: list[float] = []
    for _ in range(client.compared):
        losses += run.learn(1)
        if nudges is not None:
            nudge(run.module, nudges)
    return torch.tensor(losses, dtype=torch.float64)


@torch.no_grad()
def nudge(module: nn.Module, generator: torch.Generator) -> None:
    for parameter in module.parameters():
        direction = torch.randint(-1, 2, parameter.shape, generator=generator)
        parameter.mul_(1 + direction * ROUNDING)


def rounding_bound(client: Client, plain: Tensor) -> Tensor:
    """Return how far a loss may be from that of plain PyTorch, for each loss of the curve."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(NUDGED_RUNS)]
    away = [(curve(client, False, nudges) - plain).abs() for nudges in generators]
    grown = torch.stack(away).amax(0).cummax(0).values
    return MULTIPLE * grown + LOSS_ITSELF * ROUNDING * plain.abs()
