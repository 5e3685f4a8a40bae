"""The borders of the domain: NaN, inf, zeros, empty tensors, any number of dimensions."""

import pytest
import torch
from cases import Size, draw
from tolerance import assert_equal, assert_same_bits
from torch.nn import functional as F

from pyfastnn.functional import linear_relu, mlp

NAN, INF = float("nan"), float("inf")
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0]


def special_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every pair of special values meets, in rows and columns of a tile and in its tail."""
    grid = torch.tensor(SPECIAL, dtype=dtype)
    x = torch.ones(20, 3, dtype=dtype)
    x[:7, 0], x[7:14, 1], x[14:, 2] = grid, grid, grid[:6]
    w = torch.ones(37, 3, dtype=dtype)
    w[:7, 0], w[7:14, 1], w[30:, 2] = grid, grid, grid
    b = torch.zeros(37, dtype=dtype)
    b[14:21] = grid
    return x, w, b


def test_forward_carries_nan_and_inf_like_torch(isa, dtype):
    x, w, b = special_arguments(dtype)
    for bias in (b, None):
        want = torch.relu(F.linear(x, w, bias))
        assert want.isnan().any() and want.isinf().any() and (want == 0).any()
        assert_equal(linear_relu(x, w, bias), want)
        ones = torch.ones(5, 37, dtype=dtype)
        assert_equal(
            mlp(x, [w, ones], [bias, None], True), torch.relu(F.linear(want, ones)), "network"
        )


def test_output_without_relu_keeps_negative_values_and_minus_inf(isa, dtype):
    x, w, b = special_arguments(dtype)
    want = F.linear(x, w, b)
    assert (want == -INF).any()
    assert_equal(mlp(x, [w], [b]), want)


def test_one_nan_spoils_its_own_row_only(isa, dtype):
    x, (w,), (b,) = draw(Size(40, (300, 70)), dtype)
    clean = linear_relu(x, w, b)
    x[17, 299] = NAN
    got = linear_relu(x, w, b)
    assert got[17].isnan().all()
    others = torch.arange(40) != 17
    assert_same_bits(got[others], clean[others])


@pytest.mark.parametrize("with_nan", [True, False])
def test_gradients_carry_nan_and_inf_like_torch(isa, dtype, with_nan):
    x, w, b = special_arguments(dtype)
    if not with_nan:  # in the arguments; grad_output has its inf and NaN in either case
        x, w, b = (t.nan_to_num(nan=1.0, posinf=2.0, neginf=-2.0) for t in (x, w, b))
    grad = torch.ones(20, 37, dtype=dtype)
    grad[3, ::3], grad[9, 2], grad[:, 5], grad[11, 20] = INF, NAN, -0.0, -INF
    want = gradients(lambda x, w, b: torch.relu(F.linear(x, w, b)), (x, w, b), grad)
    got = gradients(linear_relu, (x, w, b), grad)
    for name, ours, theirs in zip(("input", "weight", "bias"), got, want, strict=True):
        assert_equal(ours, theirs, name)


def test_the_gradient_at_exactly_zero_is_zero(isa, dtype):
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=dtype)
    w = torch.ones(19, 2, dtype=dtype)
    b, grad = torch.zeros(19, dtype=dtype), torch.ones(2, 19, dtype=dtype)
    got = gradients(linear_relu, (x, w, b), grad)
    assert_equal(got[0], torch.tensor([[0.0, 0.0], [19.0, 19.0]], dtype=dtype))
    assert_equal(got[1], torch.ones(19, 2, dtype=dtype))
    assert_equal(got[2], torch.ones(19, dtype=dtype))


def test_a_masked_gradient_is_zero_even_where_it_was_inf_or_nan(isa, dtype):
    x, w = torch.ones(3, 2, dtype=dtype), torch.full((18, 2), -1.0, dtype=dtype)
    for value in (INF, NAN):
        grad = torch.full((3, 18), value, dtype=dtype)
        for got in gradients(linear_relu, (x, w, torch.zeros(18, dtype=dtype)), grad):
            assert_equal(got, torch.zeros_like(got))


def test_zero_outputs_are_positive_zeros(isa, dtype):
    for x in (torch.full((5, 3), -0.0, dtype=dtype), torch.full((5, 3), -1.0, dtype=dtype)):
        y = linear_relu(x, torch.ones(33, 3, dtype=dtype), torch.full((33,), -0.0, dtype=dtype))
        assert_same_bits(y, torch.zeros(5, 33, dtype=dtype))


@pytest.mark.parametrize(
    "shape", [(0, 6), (3, 0, 6), (6,), (1, 6), (2, 3, 6), (2, 1, 3, 6), (2, 0, 3, 6)], ids=str
)
def test_any_leading_dimensions(isa, dtype, shape):
    _, weights, biases = draw(Size(1, (6, 20, 9)), dtype)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    rows = x.reshape(x.numel() // 6, 6)
    for activate_last in (True, False):
        want = mlp(rows, weights, biases, activate_last).reshape(*shape[:-1], 9)
        assert_same_bits(mlp(x, weights, biases, activate_last), want)
    want = linear_relu(rows, weights[0], biases[0]).reshape(*shape[:-1], 20)
    assert_same_bits(linear_relu(x, weights[0], biases[0]), want)


@pytest.mark.parametrize("shape", [(0, 6), (6,), (2, 3, 6), (2, 1, 3, 6), (2, 0, 3, 6)], ids=str)
def test_gradients_have_the_shapes_of_their_arguments(isa, dtype, shape):
    _, (w,), (b,) = draw(Size(1, (6, 20)), dtype)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    grad = torch.randn(*shape[:-1], 20, dtype=torch.float64).to(dtype)
    got = gradients(linear_relu, (x, w, b), grad)
    rows = x.numel() // 6
    flat = gradients(linear_relu, (x.reshape(rows, 6), w, b), grad.reshape(rows, 20))
    assert_same_bits(got[0], flat[0].reshape(shape), "input")
    assert_same_bits(got[1], flat[1], "weight")
    assert_same_bits(got[2], flat[2], "bias")


@pytest.mark.parametrize("m, k, n", [(0, 4, 3), (5, 0, 3), (5, 4, 0), (0, 0, 3), (0, 0, 0)])
def test_empty_sizes_give_what_torch_gives(isa, dtype, m, k, n):
    x, w = torch.ones(m, k, dtype=dtype), torch.ones(n, k, dtype=dtype)
    b = torch.arange(n).to(dtype) - 1
    grad = torch.ones(m, n, dtype=dtype)
    for bias in (b, None):
        assert_equal(linear_relu(x, w, bias), torch.relu(F.linear(x, w, bias)))
    want = gradients(lambda x, w, b: torch.relu(F.linear(x, w, b)), (x, w, b), grad)
    for ours, theirs in zip(gradients(linear_relu, (x, w, b), grad), want, strict=True):
        assert_equal(ours, theirs)


def test_a_hidden_layer_without_features(isa, dtype):
    x = torch.ones(5, 4, dtype=dtype, requires_grad=True)
    weights = [torch.ones(0, 4, dtype=dtype), torch.ones(3, 0, dtype=dtype)]
    bias = torch.tensor([1.0, -2.0, 3.0], dtype=dtype, requires_grad=True)
    y = mlp(x, weights, [torch.ones(0, dtype=dtype), bias])
    assert_equal(y.detach(), bias.detach().expand(5, 3))
    grad_x, grad_bias = torch.autograd.grad(y.sum(), (x, bias))
    assert_equal(grad_x, torch.zeros(5, 4, dtype=dtype))
    assert_equal(grad_bias, torch.full((3,), 5.0, dtype=dtype))


def gradients(function, arguments, grad_output):
    arguments = [argument.detach().clone().requires_grad_() for argument in arguments]
    return torch.autograd.grad(function(*arguments), arguments, grad_output)
