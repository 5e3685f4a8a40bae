"""LinearReLU and MLP behave like the PyTorch modules they stand in for."""

import copy
import io
import pickle
from itertools import pairwise

import pytest
import torch
from cases import DTYPES
from tolerance import assert_same_bits
from torch import nn
from torch.nn.utils import prune

import pyfastnn
from pyfastnn import MLP, LinearReLU

SIZES = [20, 33, 17, 5]


def hand_written(bias: bool = True, activate_last: bool = False, **options) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k, n in pairwise(SIZES):
        layers += [nn.Linear(k, n, bias, **options), nn.ReLU()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))


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
    theirs = hand_written(bias, activate_last)
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
    ours, theirs = MLP(SIZES), hand_written()
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


def spectral(model):
    torch.nn.utils.parametrizations.spectral_norm(model[0])


def old_weight_norm(model):
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.nn.utils.weight_norm(model[2])


def pruned(model):
    prune.l1_unstructured(model[2], "weight", amount=0.5)


def scale_output(model):
    model[1].register_forward_hook(lambda module, args, output: 2 * output)


def scale_input(model):
    model[2].register_forward_pre_hook(lambda module, args: 2 * args[0])


def scale_gradient(model):
    model[0].register_full_backward_hook(
        lambda module, grad_input, grad_output: (2 * grad_input[0],)
    )


def scale_gradient_before(model):
    model[2].register_full_backward_pre_hook(lambda module, grad_output: (2 * grad_output[0],))


def own_forward(model):
    linear = model[2]
    linear.forward = lambda input: nn.functional.linear(input, 2 * linear.weight, linear.bias)


def replace_by_tanh(model):
    model[1] = nn.Tanh()


def replace_by_subclass(model):
    class Scaled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model[0] = Scaled(20, 33)


def append_dropout(model):
    model.append(nn.Dropout(0.0))


def append_linear(model):
    model.append(nn.Linear(5, 5))


def remove_relu(model):
    del model[1]


def remove_first_linear(model):
    del model[0]


CHANGES = [
    (spectral, "child 0 is a ParametrizedLinear, not a Linear"),
    (old_weight_norm, "child 2 has a hook"),
    (pruned, "child 2 has a hook"),
    (scale_output, "child 1 has a hook"),
    (scale_input, "child 2 has a hook"),
    (scale_gradient, "child 0 has a hook"),
    (scale_gradient_before, "child 2 has a hook"),
    (own_forward, "child 2 has a forward of its own"),
    (replace_by_tanh, "child 1 is a Tanh, not a ReLU"),
    (replace_by_subclass, "child 0 is a Scaled, not a Linear"),
    (append_dropout, "child 5 is a Dropout, not a ReLU"),
    (append_linear, "child 5 is a Linear, not a ReLU"),
    (remove_relu, "child 1 is a Linear, not a ReLU"),
    (remove_first_linear, "child 0 is a ReLU, not a Linear"),
]


@pytest.mark.parametrize("change, reason", CHANGES, ids=lambda v: getattr(v, "__name__", ""))
def test_what_the_operator_cannot_do_runs_child_by_child_and_says_so(change, reason):
    torch.manual_seed(0)
    ours = MLP(SIZES)
    theirs = hand_written()
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        torch.manual_seed(1)  # replaced children draw new values
        change(model)
    assert ours.fallback_reason() == reason
    x = torch.randn(9, next(m for m in ours if isinstance(m, nn.Linear)).in_features)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [model(leaf) for model, leaf in zip((ours, theirs), inputs, strict=True)]
    assert_same_bits(*[y.detach() for y in outputs])
    for y in outputs:
        y.square().sum().backward()
    assert_same_bits(inputs[0].grad, inputs[1].grad)
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same_bits(got.grad, want.grad)


def test_changes_that_keep_the_chain_stay_fused():
    model, x = MLP(SIZES), torch.randn(9, 20)
    model[0].requires_grad_(False)
    model[2] = nn.Linear(33, 17, bias=False)
    model.append(nn.ReLU())
    model.append(nn.Linear(5, 2))
    model.register_forward_hook(lambda module, args, output: 2 * output)  # on the whole: harmless
    assert model.fallback_reason() is None
    y = model(x)
    assert_close(y, 2 * plain(model, x))
    y.sum().backward()
    assert model[0].weight.grad is None and model[0].bias.grad is None
    assert model[2].weight.grad is not None and model[6].bias.grad is not None


def test_it_is_fused_again_when_the_reason_is_gone():
    model = MLP(SIZES)
    handle = model[1].register_forward_hook(lambda *_: None)
    assert model.fallback_reason() == "child 1 has a hook"
    handle.remove()
    assert model.fallback_reason() is None


def test_hooks_for_all_modules_run_on_the_children():
    model, seen = MLP(SIZES), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        assert model.fallback_reason() == "a hook is registered for all modules"
        model(torch.randn(9, 20))
    finally:
        handle.remove()
    assert seen == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear, MLP]


def test_a_network_without_children_is_the_identity():
    model, x = MLP([20, 5]), torch.randn(9, 20)
    del model[0]
    assert model.fallback_reason() == "there is no Linear layer"
    assert model(x) is x


def test_the_fused_path_is_one_operator():
    model, x = MLP(SIZES), torch.randn(9, 20)
    y = model(x)
    assert y.grad_fn.name() == "MlpBackward"
    model[0].register_forward_hook(lambda *_: None)
    assert model(x).grad_fn.name() == "AddmmBackward0"


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
    ours, theirs = MLP(SIZES, dtype=torch.float64), hand_written(dtype=torch.float64)
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
