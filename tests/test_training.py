"""TrainStep does what the five usual lines of PyTorch do, and says so when it cannot."""

import copy
import pickle
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tolerance import assert_same_bits
from torch import nn
from trainers import (
    LOSSES,
    OPTIMIZERS,
    assert_parameters_close,
    draw_batch,
    make_model,
    ordinary_step,
    scale_of,
    sgd_of,
)

import pyfastnn
from pyfastnn import TrainStep

NETWORKS = [((784, 128, 64, 10), 64), ((33, 65, 129, 3), 7), ((17, 6), 1), ((20, 30, 40), 1500)]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: "-".join(map(str, n[0])))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_equal_those_of_torch(network, loss, optimizer, way):
    (sizes, rows), loss_fn, make = network, LOSSES[loss], OPTIMIZERS[optimizer]
    model = make_model(sizes)
    other = copy.deepcopy(model)
    ours, theirs = make(model.parameters()), make(other.parameters())
    for group in (*ours.param_groups, *theirs.param_groups):
        group["lr"] *= scale_of(loss_fn, rows)
    step = TrainStep(model, loss_fn, ours)
    for i in range(6):
        x, target = draw_batch(sizes, rows - i % 2 if rows > 1 else rows, loss_fn, seed=i)
        got, want = step(x, target), ordinary_step(other, loss_fn, theirs, x, target)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12, equal_nan=True)
    if not any(p.isnan().any() for p in other.parameters()):
        assert_parameters_close(model, other)
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_hundred_steps_follow_torch_in_float32(isa, optimizer):
    sizes, loss_fn, make = (50, 40, 30, 5), nn.CrossEntropyLoss(), OPTIMIZERS[optimizer]
    model = make_model(sizes, torch.float32)
    other = copy.deepcopy(model)
    exact = copy.deepcopy(model).double()
    steps = TrainStep(model, loss_fn, make(model.parameters()))
    theirs, exactly = make(other.parameters()), make(exact.parameters())
    for i in range(100):
        x, target = draw_batch(sizes, 32, loss_fn, torch.float32, seed=i)
        steps(x, target)
        ordinary_step(other, loss_fn, theirs, x, target)
        ordinary_step(exact, loss_fn, exactly, x.double(), target)
    # Rounding differs step by step; both must stay equally near to float64.
    for got, want, right in zip(
        model.parameters(), other.parameters(), exact.parameters(), strict=True
    ):
        error = (got - right).abs().max()
        assert error <= 4 * (want - right).abs().max() + 1e-6


@pytest.mark.parametrize("max_grad_norm", [1e-3, 0.5, 1e6])
def test_the_norm_of_gradients_is_clipped_as_by_torch(max_grad_norm, way):
    sizes, loss_fn = (20, 30, 4), nn.MSELoss()
    model = make_model(sizes)
    other = copy.deepcopy(model)
    step = TrainStep(
        model, loss_fn, OPTIMIZERS["adam"](model.parameters()), max_grad_norm=max_grad_norm
    )
    theirs = OPTIMIZERS["adam"](other.parameters())
    for i in range(4):
        x, target = draw_batch(sizes, 50, loss_fn, seed=i)
        step(x, target)
        ordinary_step(other, loss_fn, theirs, x, target, max_grad_norm)
    assert_parameters_close(model, other)


def test_gradients_that_the_optimizer_does_not_apply_count_in_the_norm(way):
    sizes, loss_fn = (20, 30, 4), nn.MSELoss()
    model = make_model(sizes)
    other = copy.deepcopy(model)
    step = TrainStep(model, loss_fn, sgd_of(model[0]), max_grad_norm=0.01)
    theirs = sgd_of(other[0])
    for i in range(3):
        x, target = draw_batch(sizes, 50, loss_fn, seed=i)
        other.zero_grad()
        step(x, target)
        ordinary_step(other, loss_fn, theirs, x, target, max_grad_norm=0.01)
    assert_parameters_close(model, other)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_number_of_threads_changes_no_bit(isa, threads, dtype, max_grad_norm):
    loss_fn = nn.CrossEntropyLoss()
    for sizes, rows in (((784, 128, 64, 10), 64), ((64, 64, 64, 3), 5000), ((300, 400, 200), 3)):
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            model = make_model(sizes, torch.float32)
            step = TrainStep(
                model,
                loss_fn,
                OPTIMIZERS["momentum"](model.parameters()),
                compute_dtype=dtype,
                max_grad_norm=max_grad_norm,
            )
            losses = [step(*draw_batch(sizes, rows, loss_fn, torch.float32, i)) for i in range(3)]
            results.append([*losses, *(p.detach() for p in model.parameters())])
        for one, two in zip(*results, strict=True):
            assert_same_bits(two, one, f"{sizes}, {rows} rows")


def test_bfloat16_follows_float32(isa):
    sizes, loss_fn = (64, 96, 5), nn.CrossEntropyLoss()
    model = make_model(sizes, torch.float32)
    other = copy.deepcopy(model)
    step = TrainStep(
        model, loss_fn, OPTIMIZERS["sgd"](model.parameters()), compute_dtype=torch.bfloat16
    )
    theirs = OPTIMIZERS["sgd"](other.parameters())
    for i in range(10):
        x, target = draw_batch(sizes, 300, loss_fn, torch.float32, seed=i)
        got = step(x.bfloat16() if i % 2 else x, target)
        want = ordinary_step(other, loss_fn, theirs, x, target)
        torch.testing.assert_close(got, want, rtol=2e-2, atol=1e-3)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert_parameters_close(model, other, rtol=0.05, atol=2e-3)


def test_an_autocast_around_all_steps_changes_no_bit(way):
    sizes, loss_fn = (20, 30, 5), nn.CrossEntropyLoss()
    results = []
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    for context in (nullcontext(), autocast(), autocast(enabled=False)):
        model = make_model(sizes, torch.float32)
        step = TrainStep(model, loss_fn, sgd_of(model), compute_dtype=torch.bfloat16)
        with context:
            losses = [step(*draw_batch(sizes, 9, loss_fn, torch.float32, i)) for i in range(4)]
        results.append([*losses, *(p.detach() for p in model.parameters())])
    for want, *got in zip(*results, strict=True):
        for tensor in got:
            assert_same_bits(tensor, want)


def test_optimizer_state_goes_back_and_forth(tmp_path, way):
    sizes, loss_fn = (10, 20, 3), nn.CrossEntropyLoss()
    for name in ("momentum", "adam"):
        model = make_model(sizes)
        other = copy.deepcopy(model)
        ours, theirs = (OPTIMIZERS[name](m.parameters()) for m in (model, other))
        step = TrainStep(model, loss_fn, ours)
        for i in range(9):
            x, target = draw_batch(sizes, 16, loss_fn, seed=i)
            if i % 3 == 2:  # ordinary steps in between
                ordinary_step(model, loss_fn, ours, x, target)
            else:
                step(x, target)
            ordinary_step(other, loss_fn, theirs, x, target)
            if i == 4:
                torch.save(ours.state_dict(), tmp_path / "state")
                ours.load_state_dict(torch.load(tmp_path / "state"))
            if i == 6:
                ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
        assert_parameters_close(model, other)


def test_schedulers_groups_and_frozen_parameters_count(way):
    sizes, loss_fn = (10, 20, 30, 3), nn.CrossEntropyLoss()

    def make(model):
        groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": [model[2].weight]}]
        optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)

    model = make_model(sizes)
    other = copy.deepcopy(model)
    (ours, our_rate), (theirs, their_rate) = make(model), make(other)
    step = TrainStep(model, loss_fn, ours)
    for i in range(8):
        for m in (model, other):
            m[0].weight.requires_grad_(i not in (2, 3))
        if i == 5:
            for m in (model, other):
                m[2].weight.data = m[2].weight.data * 0.5
        if i == 6:
            for optimizer in (ours, theirs):
                optimizer.param_groups[1]["momentum"] = 0.0
        x, target = draw_batch(sizes, 16, loss_fn, seed=i)
        step(x, target)
        ordinary_step(other, loss_fn, theirs, x, target)
        our_rate.step()
        their_rate.step()
    assert_parameters_close(model, other)


def test_version_counters_move_and_grad_is_left_alone(way):
    model = make_model((4, 5, 2))
    step = TrainStep(model, nn.MSELoss(), torch.optim.SGD(model[0].parameters(), lr=0.1))
    before = [p._version for p in model.parameters()]
    loss = step(*draw_batch((4, 5, 2), 3, nn.MSELoss()))
    moved = [p._version > v for p, v in zip(model.parameters(), before, strict=True)]
    assert moved == [True, True, False, False]
    assert all(p.grad is None for p in model.parameters())
    assert loss.shape == () and not loss.requires_grad


def test_other_containers_are_read(way):
    sizes, loss_fn = (12, 7, 5, 3), nn.MSELoss()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(pyfastnn.LinearReLU(12, 7), nn.Linear(7, 5, bias=False)),
        nn.Linear(5, 3),
        nn.ReLU(),
    ).double()
    other = copy.deepcopy(model)
    step = TrainStep(model, loss_fn, OPTIMIZERS["adam"](model.parameters()))
    theirs = OPTIMIZERS["adam"](other.parameters())
    for i in range(5):
        x, target = draw_batch(sizes, 9, loss_fn, seed=i)
        x = x.reshape(9, 3, 4)
        torch.testing.assert_close(
            step(x, target), ordinary_step(other, loss_fn, theirs, x, target)
        )
    assert_parameters_close(model, other)


def test_nan_and_empty_batches_are_not_hidden(way):
    for bad in (float("nan"), float("inf")):
        model = make_model((4, 3))
        step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        x, target = draw_batch((4, 3), 5, nn.CrossEntropyLoss())
        x[2, 1] = bad
        assert step(x, target).isnan()
        assert model[0].weight.isnan().any()
    model = make_model((4, 3))
    step = TrainStep(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    before = copy.deepcopy(model)
    assert step(torch.empty(0, 4).double(), torch.empty(0, 3).double()).isnan()
    assert_parameters_close(model, before)


def test_memory_does_not_grow_with_the_batch():
    resource = pytest.importorskip("resource")
    sizes = (*(64,) * 8, 3)
    model = make_model(sizes, torch.float32)
    step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    x, target = torch.randn(65536, 64), torch.randint(3, (65536,))
    step(x[:16], target[:16])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(x, target)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 * 1024  # KB


def test_the_trained_model_pickles():
    model = make_model((4, 3))
    step = TrainStep(model, nn.MSELoss(), sgd_of(model))
    step(*draw_batch((4, 3), 2, nn.MSELoss()))
    again = pickle.loads(pickle.dumps(model))
    assert_parameters_close(again, model, 0, 0)


def test_a_learning_rate_that_is_a_tensor_may_change_in_place(way):
    model, loss_fn = make_model((4, 3), torch.float64), nn.MSELoss()
    other = copy.deepcopy(model)
    rates = [torch.tensor(0.1), torch.tensor(0.1)]
    steps = TrainStep(model, loss_fn, torch.optim.SGD(model.parameters(), lr=rates[0]))
    theirs = torch.optim.SGD(other.parameters(), lr=rates[1])
    for i in range(3):
        x, target = draw_batch((4, 3), 5, loss_fn, torch.float64, seed=i)
        steps(x, target)
        ordinary_step(other, loss_fn, theirs, x, target)
        for rate in rates:
            rate.mul_(0.5)
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()))


def test_momentum_may_be_switched_on_between_steps(way):
    model, loss_fn = make_model((4, 3), torch.float64), nn.MSELoss()
    other = copy.deepcopy(model)
    ours = torch.optim.SGD(model.parameters(), lr=0.1)
    theirs = torch.optim.SGD(other.parameters(), lr=0.1)
    steps = TrainStep(model, loss_fn, ours)
    for i in range(4):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["momentum"] = 0.9 if i else 0
        x, target = draw_batch((4, 3), 5, loss_fn, torch.float64, seed=i)
        steps(x, target)
        ordinary_step(other, loss_fn, theirs, x, target)
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()))
