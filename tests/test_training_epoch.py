"""TrainStep.run_epoch is the steps it is made of."""

import copy

import pytest
import torch
from tolerance import assert_same_bits
from torch import nn
from trainers import LOSSES, OPTIMIZERS, draw_batch, make_model

from pyfastnn import TrainStep


@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "smoothed"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_is_the_steps_it_is_made_of(shuffle, loss, max_grad_norm, way):
    sizes, loss_fn, make = (21, 16, 4), LOSSES[loss], OPTIMIZERS["adam"]
    X, target = draw_batch(sizes, 103, loss_fn)
    model = make_model(sizes)
    other = copy.deepcopy(model)
    epochs = TrainStep(model, loss_fn, make(model.parameters()), max_grad_norm=max_grad_norm)
    steps = TrainStep(other, loss_fn, make(other.parameters()), max_grad_norm=max_grad_norm)
    for epoch in range(2):
        seed = torch.Generator().manual_seed(epoch)
        mean = epochs.run_epoch(X, target, 20, shuffle=shuffle, generator=seed, drop_last=epoch > 0)
        order = torch.arange(103)
        if shuffle:
            order = torch.randperm(103, generator=torch.Generator().manual_seed(epoch))
        batches = [rows for rows in order.split(20) if epoch == 0 or len(rows) == 20]
        counts = [
            int((target[rows] != 1).sum()) if loss == "smoothed" else len(rows) for rows in batches
        ]
        losses = [steps(X[rows], target[rows]).item() for rows in batches]
        want = sum(v * n for v, n in zip(losses, counts, strict=True)) / sum(counts)
        assert mean == pytest.approx(want, rel=1e-9)
        for got, expected in zip(model.parameters(), other.parameters(), strict=True):
            assert_same_bits(got.detach(), expected.detach())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_of_ignored_rows_adds_nothing_to_the_loss(reduction, way):
    sizes, loss_fn = (21, 16, 4), nn.CrossEntropyLoss(ignore_index=1, reduction=reduction)
    X, target = draw_batch(sizes, 30, loss_fn)
    target[10:20], target[25] = 1, 1
    model = make_model(sizes)
    counts = (target != 1).view(3, 10).sum(1)
    other = copy.deepcopy(model)
    make = OPTIMIZERS["sgd"]
    steps = TrainStep(other, loss_fn, make(other.parameters()))
    losses = torch.stack(
        [steps(*batch) for batch in zip(X.split(10), target.split(10), strict=True)]
    )
    assert losses[1].isnan() == (reduction == "mean")
    sums = losses * counts if reduction == "mean" else losses
    epochs = TrainStep(model, loss_fn, make(model.parameters()))
    mean = epochs.run_epoch(X, target, 10, shuffle=False)
    assert mean == pytest.approx((sums.nansum() / counts.sum()).item(), rel=1e-9)


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_an_epoch_over_bytes_equals_one_over_scaled_floats(isa, compute):
    sizes, loss_fn = (37, 16, 4), nn.CrossEntropyLoss()
    images = torch.randint(256, (60, 37), dtype=torch.uint8)
    target = torch.randint(4, (60,))
    models = [make_model(sizes, torch.float32) for _ in range(2)]
    for model, X, options in (
        (models[0], images, {"scale": 1 / 256, "shift": -0.5}),
        (models[1], images.float() / 256 - 0.5, {}),
    ):
        step = TrainStep(
            model, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1), compute_dtype=compute
        )
        step.run_epoch(X, target, 16, generator=torch.Generator().manual_seed(0), **options)
    for got, want in zip(*(m.parameters() for m in models), strict=True):
        assert_same_bits(got.detach(), want.detach())
