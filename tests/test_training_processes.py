"""TrainStep in two processes equals one process on all rows."""

import datetime
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import pyfastnn

SIZES, ROWS = (12, 20, 3), 30


def train(process_group, rank, world, max_grad_norm, seed):
    """Three steps and an epoch; the last step has rows for the first process only in part."""
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


NORMS = (None, 0.1)


def in_a_process(rank, folder):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine's name resolves to
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    # Other weights and another order in the second process: the first one's count.
    results = [train(dist.group.WORLD, rank, 2, norm, seed=rank) for norm in NORMS]
    torch.save(results, Path(folder) / f"results{rank}")
    dist.barrier()
    # gloo's threads sometimes abort a process that takes down its group while they run.
    os._exit(0)


def test_two_processes_equal_one(tmp_path):
    mp.spawn(in_a_process, args=(str(tmp_path),), nprocs=2)
    alone = [train(None, 0, 1, norm, seed=0) for norm in NORMS]
    for rank in range(2):
        together = torch.load(tmp_path / f"results{rank}")
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-11)
