"""Derivatives of any order, in every mode, of the operators and of the Function classes."""

import pytest
import torch
from cases import Size
from functions import (
    LAYERS,
    MLPS,
    SIZE,
    assert_close,
    draw_smooth,
    fused_mlp,
    plain_layer,
    plain_mlp,
)
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.functional import linear_relu


@pytest.mark.parametrize("bias", [True, False])
@MLPS
def test_gradcheck_of_networks_in_both_modes(isa, network, bias):
    arguments = draw_smooth(SIZE, bias)
    assert gradcheck(network, arguments, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("bias", [True, False])
@LAYERS
def test_gradcheck_of_layers_in_both_modes(isa, layer, bias):
    arguments = draw_smooth(Size(5, (3, 18)), bias)
    assert gradcheck(layer, arguments, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("bias", [True, False])
@MLPS
def test_gradgradcheck_of_networks(isa, network, bias):
    arguments = draw_smooth(SIZE, bias)
    assert gradgradcheck(network, arguments, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("bias", [True, False])
@LAYERS
def test_gradgradcheck_of_layers(isa, layer, bias):
    arguments = draw_smooth(Size(3, (4, 5)), bias)
    assert gradgradcheck(layer, arguments, check_fwd_over_rev=True, check_rev_over_rev=True)


def derivatives(function, arguments, order: int) -> list[torch.Tensor]:
    """Gradients of the squared norm of the gradients of ... of the output."""
    value = function(*arguments).square().sum()
    wanted = [argument for argument in arguments if argument is not None]
    for step in range(order):
        grads = torch.autograd.grad(
            value, wanted, create_graph=step + 1 < order, materialize_grads=True
        )
        value = sum(grad.square().sum() for grad in grads)
    return list(grads)


@pytest.mark.parametrize("order", [1, 2, 3])
@MLPS
def test_higher_derivatives_of_networks_are_those_of_torch(network, order):
    arguments = draw_smooth(Size(7, (4, 6, 5, 2)))
    assert_close(derivatives(network, arguments, order), derivatives(plain_mlp, arguments, order))


@pytest.mark.parametrize("order", [1, 2, 3])
@LAYERS
def test_higher_derivatives_of_layers_are_those_of_torch(layer, order):
    arguments = draw_smooth(Size(7, (4, 6)))
    assert_close(derivatives(layer, arguments, order), derivatives(plain_layer, arguments, order))


@LAYERS
def test_a_gradient_penalty_beside_another_loss_is_not_lost(layer):
    def penalised(function, x, w, b):
        y = function(x, w, b)
        (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return torch.autograd.grad(y.square().sum() + (grad.norm() - 1).square(), (w, b))

    arguments = draw_smooth(Size(7, (4, 6)))
    assert_close(penalised(layer, *arguments), penalised(plain_layer, *arguments))


@MLPS
def test_forward_mode_of_arguments_gives_the_tangent_of_torch(network):
    primals = [t.detach() for t in draw_smooth(SIZE)]
    for active in (range(7), [0], [1], [2], [4], [6]):
        results = []
        for function in (network, plain_mlp):
            torch.manual_seed(1)
            with forward_ad.dual_level():
                duals = [
                    forward_ad.make_dual(p, torch.randn_like(p)) if i in active else p
                    for i, p in enumerate(primals)
                ]
                results.append(forward_ad.unpack_dual(function(*duals)).tangent)
        assert results[0] is not None
        assert_close(*results)


@pytest.mark.parametrize("dual", ["arguments", "grad_output"])
@MLPS
def test_forward_mode_over_a_first_order_backward(network, dual):
    arguments = draw_smooth(SIZE)
    results = []
    for function in (network, plain_mlp):
        torch.manual_seed(1)
        with forward_ad.dual_level():
            inputs = arguments
            grad = torch.ones(3, 2, dtype=torch.float64)
            if dual == "arguments":
                inputs = [forward_ad.make_dual(t, torch.randn_like(t)) for t in arguments]
            else:
                grad = forward_ad.make_dual(grad, torch.randn_like(grad))
            grads = torch.autograd.grad(function(*inputs), inputs, grad)
            tangents = [forward_ad.unpack_dual(g).tangent for g in grads]
            results.append([t if t is None else t.clone() for t in tangents])
    assert any(t is not None for t in results[1])
    for got, want in zip(*results, strict=True):
        if want is None:
            assert got is None or not got.any()
        else:
            assert got is not None, "the tangent was dropped"
            assert_close(got, want)


@MLPS
def test_batched_gradients(network):
    arguments = draw_smooth(SIZE)
    batch = torch.eye(6, dtype=torch.float64).view(6, 3, 2)
    got, want = (
        torch.autograd.grad(f(*arguments), arguments, batch, is_grads_batched=True)
        for f in (network, plain_mlp)
    )
    assert_close(got, want)


@MLPS
def test_a_second_backward_needs_retain_graph(network):
    loss = network(*draw_smooth(SIZE)).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@MLPS
def test_changing_a_saved_tensor_in_place_is_noticed(network):
    arguments = draw_smooth(SIZE)
    loss = network(*arguments).sum()
    with torch.no_grad():
        arguments[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@MLPS
def test_changing_the_activated_output_in_place_is_noticed(network):
    x, w, b = draw_smooth(Size(5, (4, 6)))
    y = linear_relu(x, w, b) if network is fused_mlp else LinearReLUFunction.apply(x, w, b)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@MLPS
def test_saved_tensor_hooks_and_checkpointing_change_nothing(network):
    arguments = draw_smooth(SIZE)
    want = torch.autograd.grad(network(*arguments).sum(), arguments)
    with torch.autograd.graph.save_on_cpu():
        y = network(*arguments)
    for got in (
        torch.autograd.grad(y.sum(), arguments),
        torch.autograd.grad(
            torch.utils.checkpoint.checkpoint(network, *arguments, use_reentrant=False).sum(),
            arguments,
        ),
    ):
        assert all(map(torch.equal, got, want))


def test_only_what_is_needed_is_differentiated_through_functions():
    x, w, b = draw_smooth(Size(5, (4, 6)))
    y = LinearReLUFunction.apply(x.detach(), w, b.detach())
    assert torch.autograd.grad(y.sum(), w)[0].shape == w.shape
    y = MLPFunction.apply(x, True, w.detach(), None)
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape
    assert not LinearReLUFunction.apply(x.detach(), w.detach(), None).requires_grad


def test_mlp_function_says_which_parameters_it_expects():
    x, w, b = draw_smooth(Size(5, (4, 6)))
    with pytest.raises(ValueError, match=r"expected a weight and a bias .* got 1 parameters"):
        MLPFunction.apply(x, False, w)
    with pytest.raises(RuntimeError, match=r"weights\[0\]"):
        MLPFunction.apply(x, False, w.T, b)
