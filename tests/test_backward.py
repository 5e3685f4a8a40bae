"""First-order gradients of the fused kernels: exact integers, bounds, subsets, strides."""

from itertools import product

import cases
import pytest
import torch
from cases import LAYERS, LAYOUTS, NETWORKS, Size, draw, integers
from tolerance import assert_equal, assert_same_bits, assert_within

from pyfastnn import reference
from pyfastnn.functional import linear_relu, mlp

ops = torch.ops.pyfastnn

ROWS = [1, 2, 5, 12, 13, 14, 15, 17, 31, 65, 100, 257]
COLUMNS = [1, 3, 8, 15, 16, 17, 33, 64, 65, 100]
DEPTHS = [1, 2, 16, 17, 33, 100, 257]


@pytest.mark.parametrize("k", DEPTHS)
def test_gradients_of_small_integers_are_exact_at_every_tile_edge(isa, k):
    x, w = integers(max(ROWS), k, seed=1), integers(max(COLUMNS), k, seed=2)
    y = integers(max(ROWS), max(COLUMNS), seed=3)  # only its sign matters
    grad = integers(max(ROWS), max(COLUMNS), seed=4)
    wanted = {
        (m, n): reference.mlp_backward(grad[:m, :n], x[:m], [w[:n]], [y[:m, :n]], True, [True] * 3)
        for m, n in product(ROWS, COLUMNS)
    }
    for dtype in cases.DTYPES:
        g, xs, ws, ys = (tensor.to(dtype) for tensor in (grad, x, w, y))
        for (m, n), want in wanted.items():
            got = ops.mlp_backward(g[:m, :n], xs[:m], [ws[:n]], [ys[:m, :n]], True, [True] * 3)
            for name, ours, right in zip(("input", "weight", "bias"), got, want, strict=True):
                assert_equal(ours, right.to(dtype), f"{name}, {dtype}, M={m} N={n} K={k}")


@pytest.mark.parametrize("rows", [255, 256, 257, 511, 513, 1500, 5000])
def test_sums_over_large_batches_are_exact(isa, dtype, rows):
    x, w = integers(rows, 9, seed=1), integers(21, 9, seed=2)
    grad = integers(rows, 21, seed=3)
    want = reference.mlp_backward(grad, x, [w], [], False, [True] * 3)
    arguments = [tensor.to(dtype) for tensor in (grad, x, w)]
    got = ops.mlp_backward(*arguments[:2], arguments[2:], [], False, [True] * 3)
    for name, ours, right in zip(("input", "weight", "bias"), got, want, strict=True):
        assert_equal(ours, right.to(dtype), name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [*LAYERS, *NETWORKS], ids=str)
def test_gradients_are_within_the_bound(isa, dtype, size, bias):
    arguments = draw(size, dtype, bias).requires_grad()
    for activate_last in (True, False):
        y = mlp(*arguments, activate_last)
        grad = torch.randn(y.shape, dtype=torch.float64).to(dtype)
        got = iter(torch.autograd.grad(y, arguments.tensors(), grad))
        plain = arguments.map(torch.detach)
        outputs = ops.mlp_forward(*plain, activate_last)
        right = reference.bounded_mlp_backward(
            grad,
            plain.input,
            plain.weights,
            outputs if activate_last else outputs[:-1],
            activate_last,
        )
        assert_within(next(got), right[0], "input")
        for layer in range(len(plain.weights)):
            assert_within(next(got), right[1 + 2 * layer], f"weight {layer}")
            if bias:
                assert_within(next(got), right[2 + 2 * layer], f"bias {layer}")


@pytest.mark.parametrize(
    "size", [Size(64, (300, 256)), Size(2048, (64, 16)), Size(65536, (8, 16))], ids=str
)
def test_gradient_error_is_at_most_one_and_a_half_times_that_of_torch(isa, dtype, size):
    arguments = draw(size, dtype)
    x, (w,), (b,) = arguments
    grad = draw(Size(size.rows, (size.features[-1], 1)), dtype, seed=1).input
    # A sum within rounding of zero may fall on either side of the kink: keep those out of it.
    z = reference.fprop(x.double(), w.double(), b.double(), activate=False)
    grad = grad.masked_fill(z.abs() < 1e-2, 0)
    dz = reference.drelu(grad, z)
    right = [
        cases.extended_matmul(dz, w),
        cases.extended_matmul(dz.T, x),
        cases.extended_matmul(torch.ones(1, size.rows), dz)[0],
    ]

    def errors(function) -> list[float]:
        leaves = arguments.requires_grad().tensors()
        got = torch.autograd.grad(function(*leaves), leaves, grad)
        return [cases.rms_error(ours, want) for ours, want in zip(got, right, strict=True)]

    names = ("input", "weight", "bias")
    for name, ours, torchs in zip(names, errors(linear_relu), errors(reference.fprop), strict=True):
        assert ours <= 1.5 * torchs, name


def leaves_of(arguments: cases.Arguments, subset: tuple[bool, ...]) -> list[torch.Tensor]:
    pairs = zip(arguments.tensors(), subset, strict=True)
    return [tensor.detach().requires_grad_(needed) for tensor, needed in pairs]


def check_every_subset(function, size: Size, dtype: torch.dtype) -> None:
    """Each subset of the arguments gets the gradients that it gets when all are asked for."""
    plain = draw(size, dtype)
    grad = torch.randn(size.rows, size.features[-1], dtype=torch.float64).to(dtype)
    whole = plain.requires_grad().tensors()
    every = torch.autograd.grad(function(*whole), whole, grad)
    for subset in product([False, True], repeat=len(whole)):
        leaves = leaves_of(plain, subset)
        y = function(*leaves)
        assert y.requires_grad == any(subset)
        if y.requires_grad:
            y.backward(grad)
        for leaf, needed, want in zip(leaves, subset, every, strict=True):
            assert (leaf.grad is not None) == needed
            if needed:
                assert_same_bits(leaf.grad, want, str(subset))


def test_every_subset_of_requires_grad(isa, dtype):
    check_every_subset(lambda x, *p: mlp(x, p[::2], p[1::2]), Size(20, (7, 18, 5)), dtype)


def test_every_subset_of_requires_grad_of_one_layer(isa, dtype):
    check_every_subset(linear_relu, Size(20, (7, 18)), dtype)


def test_the_backward_op_returns_exactly_what_is_asked_for(isa, dtype):
    x, weights, biases = draw(Size(20, (7, 18, 5)), dtype)
    outputs = ops.mlp_forward(x, weights, biases, True)
    grad = torch.randn(20, 5, dtype=torch.float64).to(dtype)
    every = ops.mlp_backward(grad, x, weights, outputs, True, [True] * 5)
    assert len(every) == 5
    for subset in product([False, True], repeat=5):
        got = ops.mlp_backward(grad, x, weights, outputs, True, list(subset))
        want = [g for g, needed in zip(every, subset, strict=True) if needed]
        assert len(got) == len(want)
        for ours, right in zip(got, want, strict=True):
            assert_same_bits(ours, right, str(subset))


def test_the_stride_0_gradient_of_a_sum(isa, dtype):
    arguments = draw(Size(33, (20, 40, 17)), dtype).requires_grad()
    y = mlp(*arguments)
    got = torch.autograd.grad(y.sum(), arguments.tensors(), retain_graph=True)
    want = torch.autograd.grad(y, arguments.tensors(), torch.ones(33, 17, dtype=dtype))
    for ours, right in zip(got, want, strict=True):
        assert_same_bits(ours, right)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_of_gradient_and_arguments_do_not_change_a_bit(isa, dtype, layout):
    for size in (Size(9, (5, 20)), Size(40, (300, 17, 6)), Size(1, (6, 33))):
        plain = draw(size, dtype)
        grad = layout(torch.randn(size.rows, size.features[-1], dtype=torch.float64).to(dtype))
        moved = plain.map(layout)
        leaves = [moved.requires_grad(), moved.map(cases.contiguous).requires_grad()]
        got = torch.autograd.grad(mlp(*leaves[0], True), leaves[0].tensors(), grad)
        same = cases.contiguous(grad)
        want = torch.autograd.grad(mlp(*leaves[1], True), leaves[1].tensors(), same)
        for ours, right in zip(got, want, strict=True):
            assert_same_bits(ours, right, str(size))


def test_strided_saved_outputs_in_the_backward_op(isa, dtype):
    x, weights, biases = draw(Size(13, (7, 18, 5)), dtype)
    outputs = ops.mlp_forward(x, weights, biases, True)
    grad = torch.randn(13, 5, dtype=torch.float64).to(dtype)
    want = ops.mlp_backward(grad, x, weights, outputs, True, [True] * 5)
    for layout in (cases.transposed, cases.strided, cases.sliced, cases.misaligned):
        moved = [layout(output) for output in outputs]
        got = ops.mlp_backward(grad, x, weights, moved, True, [True] * 5)
        for ours, right in zip(got, want, strict=True):
            assert_same_bits(ours, right, layout.__name__)


def test_an_argument_used_twice_gets_both_gradients(dtype):
    w = draw(Size(1, (12, 12)), dtype).weights[0].requires_grad_()
    x = draw(Size(4, (12, 1)), dtype).input
    (got,) = torch.autograd.grad(mlp(x, [w, w], [None, None]).sum(), w)
    first, second = w.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    parts = torch.autograd.grad(mlp(x, [first, second], [None, None]).sum(), (first, second))
    assert_equal(got, parts[0] + parts[1])
