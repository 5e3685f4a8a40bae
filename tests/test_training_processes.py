"""TrainStep in two processes equals one process on all rows."""

from itertools import product

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from processes import WORLD, join, leave
from torch import nn
from trainers import assert_parameters_close, draw_batch, make_model, ordinary_step, sgd_of

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


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_batches_without_a_row_that_counts_change_nothing(group, way):
    loss_fn = nn.CrossEntropyLoss()
    model, other = make_model(SIZES), make_model(SIZES)
    step = pyfastnn.TrainStep(model, loss_fn, sgd_of(model), process_group=group)
    x, _ = draw_batch(SIZES, 6, loss_fn)
    for rows in (6, 0):
        assert step(x[:rows], torch.full((rows,), -100)).isnan()
    assert_parameters_close(model, other, 0, 0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_rows_count_in_an_epoch_as_without_a_group(group, reduction, way):
    loss_fn = nn.CrossEntropyLoss(reduction=reduction)
    x, target = draw_batch(SIZES, 30, loss_fn)
    target[10:20], target[25] = -100, -100
    losses = []
    for process_group in (None, group):
        model = make_model(SIZES)
        step = pyfastnn.TrainStep(model, loss_fn, sgd_of(model), process_group=process_group)
        losses.append(step.run_epoch(x, target, 10, shuffle=False))
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@pytest.mark.parametrize("frozen", [False, True])
def test_steps_inside_and_outside_of_inference_mode_follow_each_other(group, frozen, way):
    loss_fn = nn.MSELoss()
    model, other = make_model(SIZES), make_model(SIZES)
    step = pyfastnn.TrainStep(model, loss_fn, sgd_of(model), process_group=group, max_grad_norm=0.1)
    model.requires_grad_(not frozen)
    theirs = sgd_of(other)
    for i, mode in enumerate((True, False, True)):
        x, target = draw_batch(SIZES, 6, loss_fn, seed=i)
        with torch.inference_mode(mode):
            step(x, target)
        if not frozen:
            ordinary_step(other, loss_fn, theirs, x, target, max_grad_norm=0.1)
    assert_parameters_close(model, other)
