"""torch.func and vmap over the operators and the Function classes, against plain PyTorch."""

import torch
from cases import Size
from functions import LAYERS, MLPS, SIZE, assert_close, draw_smooth, plain_layer, plain_mlp

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
