"""torch.func and vmap over the operators and the Function classes, against plain PyTorch."""

import copy
import math

import pytest
import torch
from cases import Size
from functions import LAYERS, MLPS, SIZE, assert_close, draw_smooth, plain_layer, plain_mlp
from models import PAIRS, networks
from torch import Tensor, nn
from torch.func import functional_call

from pyfastnn.functional import linear_relu


@MLPS
def test_func_transforms_give_what_they_give_for_torch(network):
    x, *parameters = [t.detach() for t in draw_smooth(SIZE)]
    parameters = tuple(parameters)

    def compare(transform) -> None:
        assert_close(transform(network), transform(plain_mlp))

    def loss(function):
        return lambda p, x: function(x, *p).square().sum()

    ensemble = tuple(torch.stack([p, 2 * p, -p]) for p in parameters)
    tangents = tuple(torch.ones_like(p) for p in parameters)
    compare(lambda f: torch.func.grad(loss(f))(parameters, x))
    compare(lambda f: torch.vmap(lambda row: f(row, *parameters))(x))
    compare(lambda f: torch.vmap(lambda p: f(x, *p))(ensemble))
    compare(
        lambda f: torch.vmap(lambda p: f(x, *p), in_dims=1)(
            tuple(p.movedim(0, 1) for p in ensemble)
        )
    )
    compare(
        lambda f: torch.vmap(torch.vmap(lambda p, row: f(row, *p), (None, 0)), (0, None))(
            ensemble, x
        )
    )
    compare(lambda f: torch.vmap(torch.func.grad(loss(f)), (None, 0))(parameters, x))
    compare(lambda f: torch.func.jvp(lambda p: f(x, *p), (parameters,), (tangents,)))
    compare(lambda f: torch.func.jacrev(lambda x: f(x, *parameters))(x))
    compare(lambda f: torch.func.jacfwd(lambda x: f(x, *parameters))(x))
    compare(lambda f: torch.func.hessian(lambda x: f(x, *parameters).square().sum())(x))
    compare(
        lambda f: torch.func.grad(
            lambda p: torch.func.jvp(lambda x: f(x, *p), (x,), (x,))[1].sum()
        )(parameters)
    )


@LAYERS
def test_func_transforms_of_a_layer(layer):
    x, w, b = [t.detach() for t in draw_smooth(Size(5, (4, 6)))]

    def compare(transform) -> None:
        assert_close(transform(layer), transform(plain_layer))

    for bias in (b, None):
        compare(lambda f, bias=bias: torch.vmap(lambda row: f(row, w, bias))(x))
        compare(
            lambda f, bias=bias: torch.vmap(lambda w: f(x, w, bias), in_dims=2)(
                torch.stack([w, -w], 2)
            )
        )
        compare(lambda f, bias=bias: torch.func.jacrev(lambda w: f(x, w, bias))(w))
        compare(lambda f, bias=bias: torch.func.jacfwd(lambda w: f(x, w, bias))(w))
    compare(lambda f: torch.func.hessian(lambda w: f(x, w, b).square().sum())(w))
    compare(lambda f: torch.func.jacrev(torch.func.grad(lambda w: f(x, w, b).square().sum()))(w))
    compare(lambda f: torch.vmap(torch.func.grad(lambda w, r: f(r, w, b).sum()), (None, 0))(w, x))


def test_vmap_over_rows_has_the_bits_of_the_batch():
    x, w, b = [t.detach() for t in draw_smooth(Size(5, (4, 6)))]
    assert torch.equal(torch.vmap(lambda row: linear_relu(row, w, b))(x), linear_relu(x, w, b))


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def module_transforms(model: nn.Module, x: Tensor) -> list:
    """What people do with a module and torch.func."""
    parameters = parameters_of(model)

    def call(parameters, x):
        return functional_call(model, parameters, (x,))

    def loss(parameters, x):
        return call(parameters, x).square().sum()

    value, pull_back = torch.func.vjp(call, parameters, x)
    return [
        value,
        pull_back(torch.ones_like(value)),
        torch.func.grad(loss)(parameters, x),
        torch.func.grad_and_value(loss)(parameters, x),
        torch.func.jvp(call, (parameters, x), (parameters, x)),
        torch.func.jacrev(call)(parameters, x),
        torch.func.jacfwd(call)(parameters, x),
        torch.func.hessian(loss)(parameters, x),
        torch.vmap(call, (None, 0))(parameters, x),
        torch.vmap(torch.func.grad(loss), (None, 0))(parameters, x),  # per-sample gradients
        torch.func.linearize(call, parameters, x)[1](parameters, x),
    ]


@PAIRS
def test_func_transforms_of_modules(make_pair):
    ours, theirs, x = make_pair()
    assert_close(module_transforms(ours, x), module_transforms(theirs, x))


@pytest.mark.parametrize("in_dims", [(0, 0, None), (0, 0, 0)], ids=["same rows", "own rows"])
@PAIRS
def test_ensembles_of_modules_and_their_gradients(make_pair, in_dims):
    results = []
    for side in (0, 1):
        models = [copy.deepcopy(make_pair()[side]) for _ in range(3)]
        for scale, model in enumerate(models, start=1):
            torch.nn.utils.vector_to_parameters(
                torch.nn.utils.parameters_to_vector(model.parameters()) / scale, model.parameters()
            )
        parameters, buffers = torch.func.stack_module_state(models)
        x = make_pair().x
        x = x if in_dims[2] is None else torch.stack([x, 2 * x, -x])
        skeleton = copy.deepcopy(models[0]).to("meta")

        def call(parameters, buffers, x, skeleton=skeleton):
            return functional_call(skeleton, (parameters, buffers), (x,))

        y = torch.vmap(call, in_dims)(parameters, buffers, x)
        y.square().sum().backward()
        one_by_one = [m(x if in_dims[2] is None else x[i]) for i, m in enumerate(models)]
        assert_close(y, torch.stack(one_by_one))
        results.append([y, *(parameter.grad for parameter in parameters.values())])
    assert_close(*results)


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 1, 4)], ids=str)
@MLPS
def test_jacobians_and_hessians_of_autograd_functional(network, shape):
    x, *parameters = [t.detach() for t in draw_smooth(SIZE)]
    arguments = (x[: math.prod(shape) // 4].reshape(shape), *parameters)
    functional = torch.autograd.functional

    def squared(function):
        return lambda x, w: function(x, w, *arguments[2:]).square().sum()

    def compare(transform) -> None:
        assert_close(transform(network), transform(plain_mlp))

    for vectorize in (False, True):
        compare(lambda f, v=vectorize: functional.jacobian(f, arguments, vectorize=v))
        compare(lambda f, v=vectorize: functional.hessian(squared(f), arguments[:2], vectorize=v))
    forward = dict(vectorize=True, strategy="forward-mode")
    compare(lambda f: functional.jacobian(f, arguments, **forward))
    compare(lambda f: functional.hvp(squared(f), arguments[:2], arguments[:2]))
    compare(lambda f: functional.vhp(squared(f), arguments[:2], arguments[:2]))


def test_a_hand_written_per_sample_gradient_is_that_of_a_batch_of_one():
    ours, _, x = networks()
    parameters = parameters_of(ours)

    def loss(parameters, row):
        return functional_call(ours, parameters, (row,)).square().sum()

    got = torch.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for row in range(len(x)):
        ours.zero_grad()
        ours(x[row : row + 1]).square().sum().backward()
        for name, parameter in ours.named_parameters():
            assert_close(got[name][row], parameter.grad)
