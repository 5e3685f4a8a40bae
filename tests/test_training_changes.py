"""What a user may do to model and optimizer between two steps, and what happens then."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor
from trainers import OPTIMIZERS, draw_batch, make_model, ordinary_step

from pyfastnn import TrainStep

SIZES, LOSS = (6, 16, 4), nn.CrossEntropyLoss()


def batch(seed=0):
    return draw_batch(SIZES, 8, LOSS, torch.float64, seed=seed)


def model_and_step(optimizer):
    model = make_model(SIZES, torch.float64)
    made = OPTIMIZERS[optimizer](model.parameters())
    return model, made, TrainStep(model, LOSS, made)


def everything(model, optimizer):
    tensors = [*model.parameters()]
    for entry in optimizer.state.values():
        tensors += [value for value in entry.values() if isinstance(value, torch.Tensor)]
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sgd", {"differentiable": True, "lr": 0.0}),
        ("sgd", {"lr": None}),
        ("sgd", {"momentum": 0.9, "lr": "much"}),
        ("adam", {"amsgrad": True}),
        ("adam", {"betas": (0.9,)}),
        ("adam", {"betas": (0.9, "q"), "eps": 1.0}),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_until_it_is_right_again(name, changes):
    model, optimizer, step = model_and_step(name)
    other, theirs = copy.deepcopy((model, optimizer))
    x, target = batch()
    for _ in range(3):
        step(x, target)
        ordinary_step(other, LOSS, theirs, x, target)
    group = optimizer.param_groups[0]
    right = dict(group)
    group.update(changes)
    before = everything(model, optimizer)
    for _ in range(3):
        with pytest.raises((TypeError, ValueError)):
            step(x, target)
    torch.testing.assert_close(everything(model, optimizer), before, rtol=0, atol=0)
    group.update(right)
    for _ in range(2):
        step(x, target)
        ordinary_step(other, LOSS, theirs, x, target)
    torch.testing.assert_close(everything(model, optimizer), everything(other, theirs))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_state_that_is_cleared_starts_anew(name):
    model, optimizer, step = model_and_step(name)
    other, theirs = copy.deepcopy((model, optimizer))
    for i in range(6):
        if i != 3:
            optimizer.state.clear()
            theirs.state.clear()
        x, target = batch(i)
        step(x, target)
        ordinary_step(other, LOSS, theirs, x, target)
        assert len(optimizer.state) == 4
        torch.testing.assert_close(everything(model, optimizer), everything(other, theirs))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_state_made_for_a_step_that_failed_is_not_published_later(name):
    model, optimizer, step = model_and_step(name)
    other, theirs = copy.deepcopy((model, optimizer))
    hook = optimizer.register_step_post_hook(lambda *_: None)
    with pytest.raises(TypeError, match="step hook"):
        step(*batch())
    hook.remove()
    for i in range(3):
        step(*batch(i))
        ordinary_step(other, LOSS, theirs, *batch(i))
    torch.testing.assert_close(everything(model, optimizer), everything(other, theirs))


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters_are_noticed(kind):
    model, _, step = model_and_step("sgd")
    for _ in range(3):  # also when the parameter has had a hook before
        step(*batch())
        hook = getattr(model[0].weight, kind)(lambda _: None)
        with pytest.raises(TypeError, match="a parameter has a hook"):
            step(*batch())
        hook.remove()
        step(*batch())


def test_x_may_be_a_weight_that_is_trained():
    model = nn.Sequential(nn.Linear(8, 8).double())
    other = copy.deepcopy(model)
    target = torch.arange(8)
    step = TrainStep(model, LOSS, torch.optim.SGD(model.parameters(), lr=0.5))
    step(model[0].weight.detach(), target)
    x = other[0].weight.detach().clone()
    ordinary_step(other, LOSS, torch.optim.SGD(other.parameters(), lr=0.5), x, target)
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()))


def inputs_of_another_kind():
    x, _ = batch()
    zeros = torch._efficientzerotensor(8, 6, dtype=torch.float64)
    yield "zero tensor", lambda step, target: step(zeros, target)
    yield "subclass", lambda step, target: step(TwoTensor(x, x), target)
    yield "fake", lambda step, target: step(FakeTensorMode().from_tensor(x), target)
    yield "functional", lambda step, target: torch.func.functionalize(lambda a: step(a, target))(x)
    yield "vmap", lambda step, target: torch.func.vmap(lambda a: step(a, target))(x.expand(2, 8, 6))
    yield "freed", lambda step, target: step(freed(x), target)
    yield "traced", lambda step, target: torch.jit.trace(lambda a: step(a, target), (x,))
    yield "fake mode", lambda step, target: in_fake_mode(step, x, target)


def freed(x):
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def in_fake_mode(step, x, target):
    with FakeTensorMode(allow_non_fake_inputs=True):
        step(x, target)


@pytest.mark.parametrize(
    "call", [pytest.param(call, id=kind) for kind, call in inputs_of_another_kind()]
)
def test_other_kinds_of_tensors_are_refused_before_anything_changes(call):
    model, optimizer, step = model_and_step("adam")
    _, target = batch()
    step(*batch())
    before = everything(model, optimizer)
    with pytest.raises(RuntimeError, match=r"TrainStep: |storage"):
        call(step, target)
    torch.testing.assert_close(everything(model, optimizer), before, rtol=0, atol=0)


def test_parameters_made_in_inference_mode_are_refused_before_anything_changes():
    with torch.inference_mode():
        model = make_model(SIZES, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainStep(model, LOSS, optimizer)
    before = everything(model, optimizer)
    with pytest.raises(RuntimeError, match="was made in inference mode"):
        step(*batch())
    torch.testing.assert_close(everything(model, optimizer), before, rtol=0, atol=0)


def test_copies_are_refused_by_name():
    _, _, step = model_and_step("sgd")
    with pytest.raises(TypeError, match="TrainStep cannot be copied or pickled"):
        copy.deepcopy(step)
