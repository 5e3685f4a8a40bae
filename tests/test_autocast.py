"""Autocast as for torch.nn.functional.linear, gradient scaling, mixed dtypes."""

import re

import cases
import pytest
import torch
from cases import Size, draw
from models import PAIRS
from tolerance import assert_same_bits
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.functional import linear_relu, mlp
from pyfastnn.fusion._classes import Fused

SIZE = Size(6, (5, 7, 3))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_for_linear(low):
    plain = draw(SIZE, torch.float32)
    with torch.autocast("cpu", low):
        arguments = plain.requires_grad()
        x, weights, biases = arguments
        assert F.linear(x, weights[0]).dtype == low
        hidden = linear_relu(x, weights[0], biases[0])
        y = mlp(hidden, weights[1:], biases[1:])  # a low-precision input meets float32 weights
        assert hidden.dtype == y.dtype == low
        assert mlp(x, weights, biases).dtype == low
    grads = torch.autograd.grad(y.float().sum(), arguments.tensors())
    assert all(grad.dtype == torch.float32 for grad in grads)
    cast = plain.map(lambda tensor: tensor.to(low))
    assert_same_bits(y.detach(), mlp(*cast))
    want = run_sum(cast)
    for got, right in zip(grads, want, strict=True):
        assert_same_bits(got, right.float())


def run_sum(arguments: cases.Arguments) -> tuple[torch.Tensor, ...]:
    leaves = arguments.requires_grad()
    hidden = linear_relu(leaves.input, leaves.weights[0], leaves.biases[0])
    y = mlp(hidden, leaves.weights[1:], leaves.biases[1:])
    return torch.autograd.grad(y.float().sum(), leaves.tensors())


def test_autocast_of_the_function_classes():
    arguments = draw(SIZE, torch.float32).requires_grad()
    x, (w0, w1), (b0, b1) = arguments
    with torch.autocast("cpu", torch.bfloat16):
        layer = LinearReLUFunction.apply(x, w0, b0)
        network = MLPFunction.apply(x, False, w0, b0, w1, b1)
    assert layer.dtype == network.dtype == torch.bfloat16
    for y, leaves in ((layer, (x, w0, b0)), (network, arguments.tensors())):
        for create_graph in (False, True):
            grads = torch.autograd.grad(
                y.float().sum(), leaves, create_graph=create_graph, retain_graph=True
            )
            assert all(grad.dtype == torch.float32 for grad in grads)


def test_autocast_leaves_float64_and_disabled_regions_alone():
    x, weights, biases = draw(SIZE, torch.float32)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert_same_bits(mlp(x, weights, biases), mlp(x, weights, biases))
        assert mlp(x, weights, biases).dtype == torch.float32
    x, weights, biases = draw(SIZE, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert mlp(x, weights, biases).dtype == F.linear(x, weights[0]).dtype


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_a_network_under_autocast_casts_once_and_stays_low_between_its_layers(low):
    x, weights, biases = draw(Size(6, (5, 7, 8, 3)), torch.float32)
    casts = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default:
                casts.append(args[0].shape)
            return function(*args, **(kwargs or {}))

    with torch.autocast("cpu", low), Casts():
        y = mlp(x, weights, biases)
    tensors = [x, *(t for pair in zip(weights, biases, strict=True) for t in pair)]
    assert sorted(casts) == sorted(t.shape for t in tensors)
    h = x.to(low)
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = mlp(h, [w.to(low)], [b.to(low)], activate_last=layer < 2)
    assert_same_bits(y, h)


@PAIRS
def test_modules_under_autocast_have_the_dtypes_of_torch_and_its_values(make_pair):
    pair = make_pair(torch.float32)
    results = []
    for model in (pair.ours, pair.theirs):
        x = pair.x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
        y.float().square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in model.parameters())])
    for got, want in zip(*results, strict=True):
        assert got.dtype == want.dtype
        # Both round what they compute to 8 bits; sums of theirs are rounded on the way as well.
        torch.testing.assert_close(got, want, rtol=2**-5, atol=2**-6)


@pytest.mark.parametrize("scale", [2.0**10, 2.0**126])
@PAIRS
def test_training_with_a_gradient_scaler_is_that_of_torch(make_pair, scale):
    pair = make_pair(torch.float32)
    histories = []
    for model in (pair.ours, pair.theirs):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
        history = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = (model(pair.x) - 1).square().sum()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e4)
            scaler.step(optimizer)
            scaler.update()
            history += [loss.detach(), norm, torch.tensor(scaler.get_scale())]
        histories.append([*history, *(p.detach() for p in model.parameters())])
    if scale > 2**100:
        assert not histories[1][1].isfinite()  # a step was skipped, and the scale was lowered
    torch.testing.assert_close(*histories)


@pytest.mark.parametrize("other", [torch.float64, torch.bfloat16, torch.float16])
@PAIRS
def test_mixed_dtypes_are_refused_as_by_torch_and_the_dtypes_are_named(make_pair, other):
    ours, theirs, x = make_pair(torch.float32)
    messages = []
    for model in (ours, theirs):
        with pytest.raises(RuntimeError, match=r"(?i)dtype") as caught:
            model(x.to(other))
        messages.append(str(caught.value))
    if isinstance(ours, Fused):  # its layers say it as they always did
        assert messages[0] == messages[1]
    else:
        assert re.search(r"(?i)weight.*of dtype .* like input, got Float", messages[0])
