"""TrainStep in two processes equals one process on all rows."""

from itertools import product

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from processes import WORLD, join, leave
from torch import nn

import pyfastnn
from pyfastnn import training

SIZES, ROWS = (12, 20, 3), 30


def train(process_group, rank, world, on_torch, max_grad_norm, seed):
    """Three steps and an epoch; the last step has rows for the first process only in part.

    With ``on_torch`` as on CUDA devices.
    """
    training.runs_on_torch = lambda parameter: on_torch
    torch.manual_seed(seed)
    model = pyfastnn.MLP(SIZES, dtype=torch.float64)
    step = pyfastnn.TrainStep(
        model,
        nn.CrossEntropyLoss(),
        torch.optim.Adam(model.parameters(), lr=1e-2),
        max_grad_norm=max_grad_norm,
        process_group=process_group,
    )
    generator = torch.Generator().manual_seed(5)
    X = torch.randn(ROWS, SIZES[0], dtype=torch.float64, generator=generator)
    target = torch.randint(SIZES[-1], (ROWS,), generator=generator)
    losses = []
    for rows in (ROWS, ROWS, ROWS - 3):
        losses.append(step(X[rank:rows:world], target[rank:rows:world]).item())
    order = torch.Generator().manual_seed(seed)
    losses.append(step.run_epoch(X, target, 8, generator=order, scale=0.5, shift=0.1))
    return [*losses, *(p.detach() for p in model.parameters())]


WAYS = tuple(product((False, True), (None, 0.1)))


def in_a_process(rank, folder):
    join(rank, folder)
    # Other weights and another order in the second process: the first one's count.
    results = [train(dist.group.WORLD, rank, WORLD, *way, seed=rank) for way in WAYS]
    torch.save(results, folder / f"results{rank}")
    dist.barrier()
    leave()


def test_two_processes_equal_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "runs_on_torch", training.runs_on_torch)  # put back afterwards
    mp.spawn(in_a_process, args=(tmp_path,), nprocs=WORLD)
    alone = [train(None, 0, 1, *way, seed=0) for way in WAYS]
    for rank in range(WORLD):
        together = torch.load(tmp_path / f"results{rank}")
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-11)
