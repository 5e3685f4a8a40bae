"""TrainStep on sparse rows: exactly what dense rows do, or lazily what is written here."""

import copy
from itertools import zip_longest

import pytest
import torch
from scipy import sparse
from sparse_data import draw_rows
from tolerance import assert_same_bits
from torch import nn
from trainers import (
    LOSSES,
    OPTIMIZERS,
    assert_parameters_close,
    make_model,
    ordinary_step,
    scale_of,
    sgd_of,
)

from pyfastnn import TrainStep

NETWORKS = [(30, 4), (300, 17, 3), (2500, 33, 20, 5)]


def draw_target(sizes, rows, loss_fn, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    if isinstance(loss_fn, nn.CrossEntropyLoss):
        return torch.randint(sizes[-1], (rows,), generator=generator)
    return torch.rand(rows, sizes[-1], dtype=torch.float64, generator=generator).to(dtype)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
@pytest.mark.parametrize("sizes", NETWORKS, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_equal_those_of_torch_on_dense_rows(optimizer, loss, sizes, max_grad_norm):
    loss_fn, make = LOSSES[loss], OPTIMIZERS[optimizer]
    model = make_model(sizes)
    other = copy.deepcopy(model)
    ours, theirs = make(model.parameters()), make(other.parameters())
    for group in (*ours.param_groups, *theirs.param_groups):
        group["lr"] *= scale_of(loss_fn, 9)
    step = TrainStep(model, loss_fn, ours, max_grad_norm=max_grad_norm)
    for i in range(6):
        x = draw_rows(9, sizes[0], 7, index=torch.int32 if i % 2 else torch.int64, seed=i)
        target = draw_target(sizes, 9, loss_fn)
        got = step(x.scipy() if i % 2 else x.tensor(), target)
        want = ordinary_step(other, loss_fn, theirs, x.dense(), target, max_grad_norm)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    assert_parameters_close(model, other)
    for name, want in theirs.state_dict()["state"].items():
        for key, value in want.items():
            torch.testing.assert_close(ours.state_dict()["state"][name][key], value)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_of_a_weight_that_lies_by_columns_equal_those_of_torch(optimizer, max_grad_norm):
    sizes, loss_fn, make = (2500, 33, 5), nn.CrossEntropyLoss(), OPTIMIZERS[optimizer]
    model = make_model(sizes)
    other = copy.deepcopy(model)
    model[0].weight.data = model[0].weight.data.t().contiguous().t()
    ours, theirs = make(model.parameters()), make(other.parameters())
    step = TrainStep(model, loss_fn, ours, max_grad_norm=max_grad_norm)
    for i in range(4):
        x, target = draw_rows(9, sizes[0], 7, seed=i), torch.arange(9) % 5
        step(x.tensor(), target)
        ordinary_step(other, loss_fn, theirs, x.dense(), target, max_grad_norm)
    assert_parameters_close(model, other)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_hundred_steps_follow_dense_rows_in_float32(isa, optimizer):
    sizes, loss_fn, make = (200, 40, 5), nn.CrossEntropyLoss(), OPTIMIZERS[optimizer]
    model = make_model(sizes, torch.float32)
    other = copy.deepcopy(model)
    exact = copy.deepcopy(model).double()
    step = TrainStep(model, loss_fn, make(model.parameters()))
    theirs, exactly = make(other.parameters()), make(exact.parameters())
    for i in range(100):
        x, target = draw_rows(32, 200, 10, torch.float32, seed=i), torch.arange(32) % 5
        step(x.tensor(), target)
        ordinary_step(other, loss_fn, theirs, x.dense(), target)
        ordinary_step(exact, loss_fn, exactly, x.dense().double(), target)
    for got, torchs, right in zip(
        model.parameters(), other.parameters(), exact.parameters(), strict=True
    ):
        error = (got.double() - right).abs().max()
        torchs_error = (torchs.double() - right).abs().max()
        assert error <= 3 * torchs_error, (error, torchs_error)


def present_columns(x):
    present = torch.zeros(x.columns, dtype=torch.bool)
    present[x.col.long()] = True
    return present


def weight_and_state(model, optimizer):
    weight = model[0].weight
    state = optimizer.state[weight].values()
    return [weight, *(value for value in state if value is not None and value.dim())]


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lazy_steps_leave_absent_columns_and_their_state_alone(optimizer, max_grad_norm):
    sizes, loss_fn, make = (300, 17, 3), nn.CrossEntropyLoss(), OPTIMIZERS[optimizer]
    model = make_model(sizes)
    other = copy.deepcopy(model)
    ours, theirs = make(model.parameters()), make(other.parameters())
    step = TrainStep(model, loss_fn, ours, max_grad_norm=max_grad_norm, sparse_update="lazy")
    for i in range(12):
        x, target = draw_rows(9, 300, 7, seed=i), torch.arange(9) % 3
        absent = ~present_columns(x)
        before = [tensor.detach().clone() for tensor in weight_and_state(other, theirs)]
        step(x.tensor(), target)
        ordinary_step(other, loss_fn, theirs, x.dense(), target, max_grad_norm)
        now = weight_and_state(other, theirs)
        new_state = torch.zeros(17, 300, dtype=torch.float64)
        for tensor, old in zip_longest(now, before, fillvalue=new_state):
            tensor.data[:, absent] = old[:, absent]
    assert_parameters_close(model, other)


def test_a_lazy_adam_on_one_layer_is_sparse_adam():
    rows = [draw_rows(6, 50, 4, seed=i) for i in range(8)]
    model = nn.Linear(50, 3, bias=False, dtype=torch.float64)
    embedding = nn.EmbeddingBag(50, 3, mode="sum", sparse=True, dtype=torch.float64)
    with torch.no_grad():
        embedding.weight.copy_(model.weight.t())
    # SparseAdam adds eps before the bias correction, Adam after it.
    ours = torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-30)
    step = TrainStep(model, nn.MSELoss(), ours, sparse_update="lazy")
    theirs = torch.optim.SparseAdam(embedding.parameters(), lr=0.01, eps=1e-30)
    for x in rows:
        target = torch.ones(6, 3, dtype=torch.float64)
        step(x.tensor(), target)
        theirs.zero_grad()
        out = embedding(x.col, x.crow[:-1], per_sample_weights=x.values)
        nn.functional.mse_loss(out, target).backward()
        theirs.step()
    torch.testing.assert_close(model.weight, embedding.weight.t())


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("kind", ["torch", "scipy"])
def test_epochs_equal_those_on_dense_rows(kind, drop_last, shuffle):
    sizes, loss_fn = (300, 17, 3), nn.CrossEntropyLoss()
    x, target = draw_rows(50, 300, 9), torch.arange(50) % 3
    losses, models = [], []
    for X in (x.tensor() if kind == "torch" else x.scipy(), x.dense()):
        model = make_model(sizes)
        step = TrainStep(model, loss_fn, torch.optim.Adam(model.parameters(), lr=0.01))
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            losses.append(
                step.run_epoch(
                    X, target, 16, shuffle=shuffle, drop_last=drop_last, generator=generator
                )
            )
        models.append(model)
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-9)
    assert_parameters_close(*models)


@pytest.mark.parametrize("frozen", [[0], [1], [0, 1], [2], [2, 3], [0, 1, 2, 3]], ids=str)
def test_frozen_parameters_stay(frozen):
    sizes, loss_fn = (60, 17, 3), nn.CrossEntropyLoss()
    model = make_model(sizes)
    other = copy.deepcopy(model)
    for network in (model, other):
        for index in frozen:
            list(network.parameters())[index].requires_grad_(False)
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=0.01) for m in (model, other))
    step = TrainStep(model, loss_fn, ours)
    for i in range(3):
        x, target = draw_rows(9, 60, 7, seed=i), torch.arange(9) % 3
        step(x.tensor(), target)
        if len(frozen) < 4:
            ordinary_step(other, loss_fn, theirs, x.dense(), target)
    assert_parameters_close(model, other)


@pytest.mark.parametrize("layers", ["linear", "linear relu", "flatten", "no bias", "two linears"])
def test_models_of_other_forms(layers):
    modules = {
        "linear": [nn.Linear(30, 3)],
        "linear relu": [nn.Linear(30, 3), nn.ReLU()],
        "flatten": [nn.Flatten(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 3)],
        "no bias": [nn.Linear(30, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)],
        "two linears": [nn.Linear(30, 8), nn.Linear(8, 3)],
    }[layers]
    model = nn.Sequential(*modules).double()
    other = copy.deepcopy(model)
    step, theirs = TrainStep(model, nn.MSELoss(), sgd_of(model)), sgd_of(other)
    for i in range(3):
        x = draw_rows(9, 30, 7, seed=i)
        target = draw_target((30, 3), 9, nn.MSELoss())
        step(x.tensor(), target)
        ordinary_step(other, nn.MSELoss(), theirs, x.dense(), target)
    assert_parameters_close(model, other)


@pytest.mark.parametrize("update", ["exact", "lazy"])
def test_two_runs_give_the_same_bits_with_any_number_of_threads(isa, threads, update):
    def run(count):
        torch.set_num_threads(count)
        model = make_model((3000, 100, 20), torch.float32)
        optimizer = torch.optim.Adam(model.parameters())
        step = TrainStep(model, nn.CrossEntropyLoss(), optimizer, sparse_update=update)
        x = draw_rows(900, 3000, 90, torch.float32)
        losses = [step.run_epoch(x.tensor(), torch.arange(900) % 20, 300, shuffle=False)]
        return [torch.tensor(losses), *model.parameters()]

    want = run(1)
    for count in (1, 2, 3):
        for got, right in zip(run(count), want, strict=True):
            assert_same_bits(got, right)


def test_sparse_and_dense_batches_take_turns():
    model = make_model((30, 8, 3))
    other = copy.deepcopy(model)
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=0.01) for m in (model, other))
    step = TrainStep(model, nn.CrossEntropyLoss(), ours)
    for i in range(6):
        x, target = draw_rows(9, 30, 7, seed=i), torch.arange(9) % 3
        step(x.dense() if i % 2 else sparse.csr_matrix(x.scipy()), target)
        ordinary_step(other, nn.CrossEntropyLoss(), theirs, x.dense(), target)
    assert_parameters_close(model, other)
