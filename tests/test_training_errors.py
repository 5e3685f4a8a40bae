"""What TrainStep does not support is named before anything changes."""

import copy

import pytest
import torch
from tolerance import assert_same_bits
from torch import nn
from torch.nn.utils import prune
from trainers import make_model, sgd_of

from pyfastnn import TrainStep, training
from pyfastnn._torch_plan import TorchPlan

BAD_PARTS = {
    "a Dropout": (
        lambda: TrainStep(
            nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.MSELoss(), sgd_of(nn.Linear(2, 2))
        ),
        "1 is a Dropout",
    ),
    "a ReLU first": (
        lambda: TrainStep(
            nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), nn.MSELoss(), sgd_of(nn.Linear(2, 2))
        ),
        "0 is a ReLU that follows no Linear",
    ),
    "another loss": (
        lambda: TrainStep(nn.Linear(2, 2), nn.L1Loss(), sgd_of(nn.Linear(2, 2))),
        "got L1Loss",
    ),
    "class weights": (
        lambda: TrainStep(
            nn.Linear(2, 2), nn.CrossEntropyLoss(weight=torch.ones(2)), sgd_of(nn.Linear(2, 2))
        ),
        "CrossEntropyLoss with weight is not supported",
    ),
    "no reduction": (
        lambda: TrainStep(nn.Linear(2, 2), nn.MSELoss(reduction="none"), sgd_of(nn.Linear(2, 2))),
        "expected reduction 'mean' or 'sum'",
    ),
    "another optimizer": (
        lambda: TrainStep(
            nn.Linear(2, 2), nn.MSELoss(), torch.optim.RMSprop(nn.Linear(2, 2).parameters())
        ),
        "got RMSprop",
    ),
    "amsgrad": (
        lambda: TrainStep(
            nn.Linear(2, 2),
            nn.MSELoss(),
            torch.optim.Adam(nn.Linear(2, 2).parameters(), amsgrad=True),
        ),
        "Adam with amsgrad=True is not supported",
    ),
    "compute_dtype": (
        lambda: TrainStep(
            nn.Linear(2, 2), nn.MSELoss(), sgd_of(nn.Linear(2, 2)), compute_dtype=torch.float16
        ),
        "expected compute_dtype",
    ),
    "max_grad_norm": (
        lambda: TrainStep(
            nn.Linear(2, 2), nn.MSELoss(), sgd_of(nn.Linear(2, 2)), max_grad_norm=-1.0
        ),
        "expected max_grad_norm to be positive, got -1.0",
    ),
}


@pytest.mark.parametrize("part", BAD_PARTS)
def test_what_is_not_supported_is_named(part):
    make, message = BAD_PARTS[part]
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_hooks_are_refused(way):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    handle = model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="1 has a hook"):
        TrainStep(model, nn.MSELoss(), sgd_of(model))
    handle.remove()
    optimizer = sgd_of(model)
    step = TrainStep(model, nn.MSELoss(), optimizer)
    optimizer.register_step_post_hook(lambda *_: None)
    with pytest.raises(TypeError, match="SGD has a step hook"):
        step(torch.ones(1, 2), torch.ones(1, 2))


BAD_BATCHES = {
    "features": (torch.ones(3, 5), torch.zeros(3).long(), r"expected x of shape \[M, 4\]"),
    "dtype": (torch.ones(3, 4).double(), torch.zeros(3).long(), "expected x of dtype .*[fF]loat"),
    "rows": (torch.ones(3, 4), torch.zeros(2).long(), r"expected target of shape \[3\]"),
    "probabilities": (torch.ones(3, 4), torch.zeros(3, 2), "class indices"),
    "class": (torch.ones(3, 4), torch.tensor([0, 1, 2]), "from 0 to 1, got 2 at index 2"),
    "grad": (torch.ones(3, 4).requires_grad_(), torch.zeros(3).long(), "not to require grad"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_wrong_batch_is_refused_before_anything_changes(name, way):
    if (way, name) == ("torch", "class"):
        return  # on a device nobody looks at the classes: the loss fails there
    x, target, message = BAD_BATCHES[name]
    model = make_model((4, 3, 2), torch.float32)
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters())
    step = TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    with pytest.raises(RuntimeError, match=message):
        step(x, target)
    with pytest.raises(RuntimeError, match=message):
        step.run_epoch(x, target, 1)
    assert not optimizer.state
    for got, want in zip(model.parameters(), before.parameters(), strict=True):
        assert_same_bits(got.detach(), want.detach())
    good = torch.ones(3, 4), torch.zeros(3).long()
    step(*good)
    assert all(entry["step"] == 1 for entry in optimizer.state.values())


def model_and_step(loss_fn=None):
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, TrainStep(model, loss_fn or nn.MSELoss(), optimizer)


BATCH = torch.ones(4, 5).double(), torch.ones(4, 3).double()


def test_changes_of_the_model_are_noticed(way):
    model, _, step = model_and_step()
    step(*BATCH)
    model[2] = nn.Linear(8, 3).double()
    want = nn.MSELoss()(model(BATCH[0]), BATCH[1]).detach()
    torch.testing.assert_close(step(*BATCH), want)
    model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="1 has a hook"):
        step(*BATCH)
    model, _, step = model_and_step()
    model.append(nn.Tanh())
    with pytest.raises(TypeError, match="3 is a Tanh"):
        step(*BATCH)
    model, _, step = model_and_step()
    prune.random_unstructured(model[0], "weight", 0.5)
    with pytest.raises(TypeError, match=r"hook|computes its parameters"):
        step(*BATCH)
    model, _, step = model_and_step()
    model[0].forward = lambda x: x
    with pytest.raises(TypeError, match="0 has a forward of its own"):
        step(*BATCH)


def test_changes_of_the_groups_are_noticed(way):
    model, optimizer, step = model_and_step()
    step(*BATCH)
    before = model[0].weight.detach().clone()
    optimizer.param_groups[0]["params"][0] = nn.Parameter(torch.ones(1).double())
    step(*BATCH)
    assert torch.equal(model[0].weight, before)


def test_negative_views_are_resolved_or_refused():
    model, _, step = model_and_step()
    x, target = torch._neg_view(-BATCH[0]), torch._neg_view(-BATCH[1])
    want = nn.MSELoss()(model(BATCH[0]), BATCH[1]).detach()
    torch.testing.assert_close(step(x, target), want)
    model[0].weight.data = torch._neg_view(model[0].weight.data)
    with pytest.raises(RuntimeError, match="weight of layer 0"):
        step(*BATCH)


def test_a_step_in_inference_mode_leaves_usable_state(way):
    model = make_model((4, 3), torch.float64)
    optimizer = torch.optim.Adam(model.parameters())
    step = TrainStep(model, nn.MSELoss(), optimizer)
    x, target = torch.ones(2, 4).double(), torch.ones(2, 3).double()
    with torch.inference_mode():
        step(x, target)
    nn.MSELoss()(model(x), target).backward()
    optimizer.step()


def test_data_made_in_inference_mode_trains_as_any_other(way):
    results = []
    for mode in (True, False):
        model = make_model((4, 3), torch.float64)
        step = TrainStep(model, nn.MSELoss(), sgd_of(model))
        with torch.inference_mode(mode):
            x, target = torch.ones(5, 4).double(), torch.zeros(5, 3).double()
            losses = [step.run_epoch(x, target, 2, shuffle=False)]
        losses.append(step(x, target).item())
        results.append([torch.tensor(losses), *(p.detach() for p in model.parameters())])
    for got, want in zip(*results, strict=True):
        assert_same_bits(got, want)


def test_later_changes_of_the_loss_do_not_count(way):
    loss_fn = nn.MSELoss()
    model, _, step = model_and_step(loss_fn)
    want = nn.MSELoss()(model(BATCH[0]), BATCH[1]).detach()
    loss_fn.reduction = "sum"
    torch.testing.assert_close(step(*BATCH), want)


def test_a_move_to_a_device_is_noticed(monkeypatch):
    _, _, step = model_and_step()
    step(*BATCH)
    for on_torch in (True, False):
        monkeypatch.setattr(training, "runs_on_torch", lambda _, on_torch=on_torch: on_torch)
        step(*BATCH)
        assert isinstance(step._plan, TorchPlan) == on_torch


def test_the_default_device_does_not_matter(way):
    _, _, step = model_and_step()
    with torch.device("meta"):
        step.run_epoch(*BATCH, 2)
        step(*BATCH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, nn.MSELoss()), "expected model to be an nn.Module, got NoneType"),
        ((nn.Linear(2, 2), nn.CrossEntropyLoss(label_smoothing=2.0)), "label_smoothing"),
        ((nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), None), "got NoneType"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, way):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainStep(*arguments, sgd_of(nn.Linear(2, 2)))
    _, _, step = model_and_step()
    with pytest.raises(TypeError, match="expected x to be a tensor, got list"):
        step([1.0], BATCH[1])
    with pytest.raises(TypeError):
        step(BATCH[0], [1.0])
    with pytest.raises(ValueError, match="expected batch_size to be a positive integer, got 0"):
        step.run_epoch(*BATCH, 0)


def test_bfloat16_data_is_not_scaled_silently(way):
    model = make_model((4, 3), torch.float32)
    step = TrainStep(model, nn.MSELoss(), sgd_of(model), compute_dtype=torch.bfloat16)
    x, target = torch.ones(2, 4).bfloat16(), torch.ones(2, 3)
    with pytest.raises(ValueError, match="got bfloat16"):
        step.run_epoch(x, target, 2, scale=0.5)
    step.run_epoch(x, target, 2)


def test_a_state_that_lies_otherwise_than_its_weight_is_named():
    model = make_model((6, 4, 3))
    optimizer = torch.optim.Adam(model.parameters())
    x, target = torch.randn(5, 6).double(), torch.randint(3, (5,))
    TrainStep(model, nn.CrossEntropyLoss(), optimizer)(x, target)
    turned = copy.deepcopy(model)
    turned[0].weight = nn.Parameter(turned[0].weight.detach().t().contiguous().t())
    other = torch.optim.Adam(turned.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = copy.deepcopy(turned.state_dict())
    with pytest.raises(
        RuntimeError, match=r"and strides \[1, 4\] like the weight, got .* and strides \[6, 1\]"
    ):
        TrainStep(turned, nn.CrossEntropyLoss(), other)(x, target)
    for name, value in turned.state_dict().items():
        assert_same_bits(value, before[name])
