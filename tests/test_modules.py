"""LinearReLU and MLP behave like the PyTorch modules they stand in for."""

import copy
import io
import pickle

import pytest
import torch
from cases import DTYPES, hand_written_network
from tolerance import assert_same_bits
from torch import nn
from torch.nn.utils import prune

import pyfastnn
from pyfastnn import MLP, LinearReLU

SIZES = [20, 33, 17, 5]


def plain(model: MLP, x: torch.Tensor) -> torch.Tensor:
    """What nn.Sequential makes of the same children."""
    return nn.Sequential.forward(model, x)


def assert_close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activate_last", [True, False])
def test_mlp_has_the_names_and_the_initial_values_of_a_hand_written_network(bias, activate_last):
    torch.manual_seed(7)
    ours = MLP(SIZES, bias=bias, activate_last=activate_last)
    torch.manual_seed(7)
    theirs = hand_written_network(SIZES, bias, activate_last)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same_bits(got.detach(), want.detach())
    assert [type(child) for child in ours] == [type(child) for child in theirs]
    x = torch.randn(9, 20)
    assert ours.fallback_reason() is None
    assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_relu_has_the_names_and_the_initial_values_of_linear(bias):
    torch.manual_seed(7)
    ours = LinearReLU(20, 33, bias=bias)
    torch.manual_seed(7)
    theirs = nn.Linear(20, 33, bias=bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same_bits(got.detach(), want.detach())
    x = torch.randn(9, 20)
    assert_close(ours(x), torch.relu(theirs(x)))


def test_state_dicts_load_both_ways():
    ours, theirs = MLP(SIZES), hand_written_network(SIZES)
    x = torch.randn(9, 20)
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(x), theirs(x))
    ours = MLP(SIZES)
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(x), theirs(x))
    layer, linear = LinearReLU(20, 3), nn.Linear(20, 3)
    layer.load_state_dict(linear.state_dict())
    assert_close(layer(x), linear(x).relu())
    linear.load_state_dict(LinearReLU(20, 3).state_dict())


@pytest.mark.parametrize("make", [lambda: MLP(SIZES), lambda: LinearReLU(20, 5)])
def test_copies_are_equal_and_independent(make):
    model, x = make(), torch.randn(9, 20)
    model(x).sum().backward()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(saved, weights_only=False),
    ):
        assert type(twin) is type(model)
        assert_same_bits(twin(x).detach(), model(x).detach())
        with torch.no_grad():
            next(twin.parameters()).add_(1)
        assert not torch.equal(twin(x), model(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_modules_move_to_every_dtype(dtype):
    for model in (MLP(SIZES).to(dtype), MLP(SIZES, dtype=dtype), LinearReLU(20, 5).to(dtype)):
        x = torch.randn(9, 20, dtype=dtype, requires_grad=True)
        y = model(x)
        assert y.dtype == dtype
        y.sum().backward()
        assert x.grad.dtype == dtype
        assert all(p.grad.dtype == dtype for p in model.parameters())


def test_the_meta_device_and_to_empty():
    model = MLP(SIZES, device="meta")
    assert model(torch.empty(9, 20, device="meta")).shape == (9, 5)
    assert LinearReLU(20, 5, device="meta").weight.is_meta
    model.to_empty(device="cpu").load_state_dict(MLP(SIZES).state_dict())
    assert model(torch.randn(9, 20)).shape == (9, 5)


def test_repr_shows_children_and_how_they_run():
    model = MLP([20, 5])
    assert "fused=True" in repr(model)
    assert "(0): Linear(in_features=20, out_features=5, bias=True)" in repr(model)
    model[0].register_forward_hook(lambda *_: None)
    assert "fused=False: child 0 has a hook" in repr(model)
    assert repr(LinearReLU(20, 5)) == "LinearReLU(in_features=20, out_features=5, bias=True)"


@pytest.mark.parametrize("sizes", [[], [3]])
def test_too_few_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=r"expected sizes to hold at least two entries .* got"):
        MLP(sizes)


def test_slices_share_the_children_as_plain_sequentials():
    model, x = MLP(SIZES), torch.randn(9, 20)
    head = model[:2]
    assert type(head) is nn.Sequential
    assert head[0] is model[0]
    assert_close(model[2:](head(x)), model(x))
    assert model[-1].out_features == 5
    tail = model.pop(4)
    assert isinstance(tail, nn.Linear) and len(model) == 4
    assert_close(model(x), plain(model, x))


def test_linear_relu_serves_parametrizations_and_pruning():
    x = torch.randn(9, 20)
    for change in (
        lambda layer: torch.nn.utils.parametrizations.weight_norm(layer),
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
    ):
        layer = LinearReLU(20, 5)
        change(layer)
        assert_close(layer(x), torch.relu(nn.functional.linear(x, layer.weight, layer.bias)))


@pytest.mark.parametrize("make", [lambda: MLP(SIZES), lambda: LinearReLU(20, 5)])
def test_functional_call_uses_the_parameters_it_is_given(make):
    model, x = make(), torch.randn(9, 20)
    doubled = {name: 2 * p.detach() for name, p in model.named_parameters()}
    want = copy.deepcopy(model)
    want.load_state_dict(doubled)
    got = torch.func.functional_call(model, doubled, (x,))
    assert_same_bits(got, want(x).detach())


def test_hooks_on_the_modules_themselves_run():
    for model in (MLP(SIZES), LinearReLU(20, 5)):
        calls = []
        model.register_forward_pre_hook(lambda *_, calls=calls: calls.append("pre"))
        model.register_forward_hook(lambda *_, calls=calls: calls.append("forward"))
        model.register_full_backward_hook(lambda *_, calls=calls: calls.append("backward"))
        model(torch.randn(9, 20, requires_grad=True)).sum().backward()
        assert calls == ["pre", "forward", "backward"]


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        lambda parameters: torch.optim.Adam(parameters, lr=0.005),
    ],
)
def test_fifty_training_steps_follow_the_plain_network(isa, make_optimizer):
    torch.manual_seed(0)
    ours, theirs = MLP(SIZES, dtype=torch.float64), hand_written_network(SIZES, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x, target = torch.randn(50, 64, 20, dtype=torch.float64), torch.randint(5, (50, 64))
    losses = []
    for model in (ours, theirs):
        optimizer = make_optimizer(model.parameters())
        history = []
        for step in range(50):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[step]), target[step])
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses.append(torch.tensor(history))
    # Rounding differences of 1e-16 grow with every step, by far less than this in 50.
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9)


def test_the_version_is_that_of_the_package():
    assert pyfastnn.__version__.count(".") == 2
