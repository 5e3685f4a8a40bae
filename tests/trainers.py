"""Losses, optimizers and ordinary steps that TrainStep is compared with."""

import torch
from torch import nn

import pyfastnn

LOSSES = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1),
    "cross_entropy_sum": nn.CrossEntropyLoss(reduction="sum"),
    "mse": nn.MSELoss(),
    "mse_sum": nn.MSELoss(reduction="sum"),
    "bce": nn.BCEWithLogitsLoss(),
}

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.8, nesterov=True),
    "dampening": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, dampening=0.2, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.99), maximize=True),
}


def draw_batch(sizes, rows, loss, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, sizes[0], dtype=torch.float64, generator=generator).to(dtype)
    if isinstance(loss, nn.CrossEntropyLoss):
        return x, torch.randint(sizes[-1], (rows,), generator=generator)
    return x, torch.rand(rows, sizes[-1], dtype=torch.float64, generator=generator).to(dtype)


def make_model(sizes, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return pyfastnn.MLP(sizes, dtype=dtype)


def scale_of(loss, rows):
    """Keeps summed losses from diverging."""
    return 1 / rows if loss.reduction == "sum" else 1.0


def ordinary_step(model, loss_fn, optimizer, x, target, max_grad_norm=None):
    optimizer.zero_grad()
    loss = loss_fn(model(x), target)
    loss.backward()
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return loss.detach()


def assert_parameters_close(model, other, rtol=1e-9, atol=1e-11):
    for got, want in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=rtol, atol=atol)


def sgd_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
