"""Inputs with many zeros, which products leave out, and weights that lie by columns."""

import copy

import pytest
import torch
from tolerance import assert_same_bits, assert_within
from torch import nn
from trainers import OPTIMIZERS, draw_batch, make_model

import pyfastnn
from pyfastnn import TrainStep, functional, reference

SIZES = [(64, 784, 128), (37, 131, 70), (300, 530, 67), (24, 48, 64)]


def draw(rows, features, outputs, dtype):
    """Pictures with a border: zero but for a window whose place depends on the row."""
    generator = torch.Generator().manual_seed(rows + features)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    begin = torch.arange(rows)[:, None] // 20 * 7 % features
    column = torch.arange(features)
    x[(column < begin) | (column >= begin + features // 3)] = 0
    w = torch.randn(outputs, features, generator=generator, dtype=torch.float64)
    b = torch.randn(outputs, generator=generator, dtype=torch.float64)
    return [tensor.to(dtype) for tensor in (x, w / features**0.5, b)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_outputs_and_gradients_are_within_the_bound(isa, dtype, size):
    x, w, b = draw(*size, dtype)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, w, b)]
    y = functional.linear_relu(*leaves)
    assert_within(y.detach(), reference.bounded_fprop(x, w, b), "output")
    grad = torch.randn(y.shape, dtype=torch.float64).to(dtype)
    got = torch.autograd.grad(y, leaves, grad)
    right = reference.bounded_mlp_backward(grad, x, [w], [y.detach()], True)
    for name, ours, want in zip(("input", "weight", "bias"), got, right, strict=True):
        assert_within(ours, want, name)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_row_has_the_same_bits_alone_and_among_others(isa, dtype, size):
    x, w, b = draw(*size, dtype)
    together = functional.linear_relu(x, w, b)
    alone = torch.cat([functional.linear_relu(row, w, b) for row in x.split(1)])
    assert_same_bits(together, alone)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_infinite_and_nan_weights_meet_zeros_as_in_torch(isa, dtype, bad):
    x, w, b = draw(64, 784, 128, dtype)
    x[:, 700] = 0
    w[5, 700] = bad
    module = pyfastnn.MLP([784, 128], activate_last=True, dtype=dtype)
    with torch.no_grad():
        module[0].weight.copy_(w)
        module[0].bias.copy_(b)
    for y in (functional.linear_relu(x, w, b), pyfastnn.prepack(module)(x)):
        assert y[:, 5].isnan().all()
        assert not y[:, :5].isnan().any()
    grad = torch.ones(64, 128, dtype=dtype)
    grad[3, 7] = bad
    leaf = w.clone().requires_grad_()
    (dw,) = torch.autograd.grad(functional.linear_relu(x, leaf, b.abs() + 100), leaf, grad)
    assert dw[7, 700].isnan()


@pytest.mark.parametrize("rows", [1, 3, 8, 40, 64, 300])
def test_weights_by_columns_give_the_same_bits(isa, dtype, rows):
    x, w, b = draw(rows, 131, 70, dtype)
    turned = w.t().contiguous().t()
    results = []
    for weight in (w, turned):
        leaves = [x.clone().requires_grad_(), weight.detach().requires_grad_(), b.clone()]
        y = functional.linear_relu(*leaves)
        results.append([y.detach(), *torch.autograd.grad(y.sum(), leaves[:2])])
    for got, want in zip(*results, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rows", [5, 40, 64, 700])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_training_weights_by_columns_gives_the_same_bits(isa, optimizer, rows, max_grad_norm):
    sizes, loss_fn = (131, 70, 33, 5), nn.CrossEntropyLoss()
    model = make_model(sizes)
    turned = copy.deepcopy(model)
    for layer in turned:
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    losses = []
    x, target = draw_batch(sizes, 3 * rows, loss_fn)
    x[:, ::3] = 0
    x[:, 80:] = 0
    for each in (model, turned):
        step = TrainStep(
            each,
            loss_fn,
            OPTIMIZERS[optimizer](each.parameters()),
            **({} if max_grad_norm is None else {"max_grad_norm": max_grad_norm}),
        )
        shuffled = torch.Generator().manual_seed(1)
        losses.append(step.run_epoch(x, target, batch_size=rows, generator=shuffled))
    # The norm of all gradients is a sum in the order of memory.
    compare = assert_same_bits if max_grad_norm is None else torch.testing.assert_close
    compare(torch.tensor(losses[1]), torch.tensor(losses[0]))
    for got, want in zip(turned.parameters(), model.parameters(), strict=True):
        compare(got.detach(), want.detach())


@pytest.mark.parametrize("threads_", [1, 3])
def test_a_sum_whose_products_are_too_small_is_plus_zero_in_every_batch(isa, threads, threads_):
    torch.set_num_threads(threads_)
    x, w = torch.randn(128, 64), torch.rand(1024, 64) + 0.1
    x[:15] = 0
    x[:15, :4], w[:, :4] = 1e-30, -1e-30
    for weight in (w, w.t().contiguous().t()):
        together = functional.mlp(x, [weight], [None])
        alone = torch.cat([functional.mlp(row, [weight], [None]) for row in x[:15].split(1)])
        assert not torch.signbit(together[:15]).any()
        assert_same_bits(alone, together[:15])
