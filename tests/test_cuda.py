"""On a CUDA device: values, gradients and bits, as promised on the CPU.

Layers up to 128 wide go through the kernels for whole networks, wider ones layer by layer.
"""

import itertools

import cases
import pytest
import torch
from cases import LAYERS, LAYOUTS, NETWORKS, Arguments, Size, draw, integers
from cuda_device import DEVICE, here, kernels, outputs_and_gradients, there
from test_edges import special_arguments
from tolerance import assert_equal, assert_same_bits, assert_within

from pyfastnn import reference
from pyfastnn.functional import linear_relu, mlp

__all__ = ["kernels"]  # a fixture

ops = torch.ops.pyfastnn
NARROW, WIDE = Size(70, (17, 128, 5, 64)), Size(70, (17, 129, 300, 64))
MIXED = Size(70, (200, 8, 5, 7, 129, 3, 4))
SIZES = [*LAYERS, *NETWORKS, NARROW, WIDE, MIXED, Size(5000, (64, 64, 3)), Size(3, (1, 1, 1))]


@pytest.fixture(autouse=True)
def sums_in_float32():
    """Torch's own products may otherwise add parts of sums in bfloat16 or float16."""
    matmul = torch.backends.cuda.matmul
    names = [f"allow_{kind}_reduced_precision_reduction" for kind in ("bf16", "fp16")]
    before = [getattr(matmul, name) for name in names]
    for name in names:
        setattr(matmul, name, False)
    yield
    for name, value in zip(names, before, strict=True):
        setattr(matmul, name, value)


# ---- values and gradients ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients_are_within_the_bound(kernels, dtype, size, bias):
    arguments = draw(size, dtype, bias)
    on_device = arguments.map(there)
    for activate_last in (True, False):
        outputs = here(ops.mlp_forward(*on_device, activate_last))
        inputs = [arguments.input, *outputs]
        for layer, (w, b) in enumerate(zip(arguments.weights, arguments.biases, strict=True)):
            activate = activate_last or layer + 1 < len(arguments.weights)
            right = reference.bounded_fprop(inputs[layer], w, b, activate)
            assert_within(outputs[layer], right, f"layer {layer}")
        grad = integers(*outputs[-1].shape).to(dtype)
        y, *grads = outputs_and_gradients(on_device, grad, activate_last)
        assert_same_bits(y.cpu(), outputs[-1])
        saved = outputs if activate_last else outputs[:-1]
        rights = reference.bounded_mlp_backward(
            grad, arguments.input, arguments.weights, saved, activate_last
        )
        if not bias:
            rights = [rights[0], *rights[1::2]]
        for i, (got, right) in enumerate(zip(here(grads), rights, strict=True)):
            assert_within(got, right, f"gradient {i}")


@pytest.mark.parametrize("k", [1, 7, 8, 16, 33, 64, 127, 128, 129, 300])
def test_small_integers_are_exact_at_every_tile_edge(kernels, dtype, k):
    edges = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 200]
    x, w, b = integers(200, k, seed=1), integers(200, k, seed=2), integers(200, seed=3)
    right = reference.fprop(x, w, b).to(dtype)
    x, w, b = (there(tensor.to(dtype)) for tensor in (x, w, b))
    for m, n in itertools.product(edges, edges):
        got = linear_relu(x[:m], w[:n], b[:n])
        assert_equal(got.cpu(), right[:m, :n], f"M={m} N={n} K={k}")


def test_edge_values_travel_as_in_torch(kernels, dtype):
    x, w, b = special_arguments(dtype)
    grad = torch.ones(20, 37, dtype=dtype)
    assert_equal(linear_relu(there(x), there(w), there(b)).cpu(), reference.fprop(x, w, b))
    assert_equal(linear_relu(there(x), there(w)).cpu(), reference.fprop(x, w, None))
    saved = reference.fprop(x, w, b)
    want = reference.mlp_backward(grad, x, [w], [saved], True, [True] * 3)
    got = ops.mlp_backward(there(grad), there(x), [there(w)], [there(saved)], True, [True] * 3)
    for ours, theirs in zip(here(got), want, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=str)
def test_strides_change_no_bit(kernels, dtype, layout, size):
    arguments = draw(size, dtype).map(there)
    if layout is cases.misaligned:  # torch's products choose by it: here any order is exact
        arguments = arguments.map(torch.sign)
    moved = arguments.map(layout)
    plain = moved.map(cases.contiguous)
    for got, want in zip(outputs_and_gradients(moved), outputs_and_gradients(plain), strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("lead", [(), (0,), (2, 0), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("features", [(5, 7, 3), (5, 129, 3), (0, 4), (5, 0, 3), (4, 0)], ids=str)
def test_empty_sizes_and_any_number_of_dimensions(kernels, dtype, lead, features):
    weights = [integers(n, k, low=-1, high=1) for k, n in itertools.pairwise(features)]
    biases = [integers(n, low=-1, high=1) for n in features[1:]]
    wide = Arguments(integers(*lead, features[0], low=-1, high=1), weights, biases)
    got = outputs_and_gradients(wide.map(lambda t: there(t.to(dtype))), None, True)
    leaves = wide.requires_grad()
    y = reference.mlp_forward(*leaves, True)[-1]
    want = [y.detach(), *torch.autograd.grad(y.sum(), leaves.tensors())]
    for ours, theirs in zip(here(got), want, strict=True):
        assert_equal(ours, theirs.to(dtype))


def test_gradcheck_and_gradgradcheck(kernels):
    for size in (Size(3, (4, 5, 2)), Size(2, (3, 130, 2))):
        x, weights, biases = draw(size, torch.float64).map(there).requires_grad()

        def network(x, *parameters):
            return mlp(x, parameters[::2], parameters[1::2], True)

        flat = [t for pair in zip(weights, biases, strict=True) for t in pair]
        assert torch.autograd.gradcheck(network, (x, *flat), fast_mode=True)
        assert torch.autograd.gradgradcheck(network, (x, *flat), fast_mode=True)


def test_tensor_cores_round_float32_only_if_torch_may(kernels):
    arguments = draw(Size(300, (64, 128)), torch.float32)
    right = reference.bounded_fprop(arguments.input, arguments.weights[0], arguments.biases[0])
    matmul, on_device = torch.backends.cuda.matmul, arguments.map(there)
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = True
        rounded = mlp(*on_device, True).cpu()
        matmul.allow_tf32 = False
        exact = mlp(*on_device, True).cpu()
    finally:
        matmul.allow_tf32 = before
    assert_within(exact, right)
    # Each factor is off by at most 2^-11 of itself.
    assert_within(rounded, right._replace(bound=right.bound * (2**-10 / (2 * 64 * 2**-24))))


@pytest.mark.skipif(
    torch.cuda.mem_get_info()[0] < 12 << 30, reason="NOT RUN: needs 12 GB of free device memory"
)
def test_more_than_two_to_the_31_elements(kernels):
    x = torch.randn(2**24 + 3, 128, dtype=torch.bfloat16, device=DEVICE)
    weight = torch.randn(128, 128, dtype=torch.bfloat16, device=DEVICE)
    y = linear_relu(x, weight)
    assert_within(y[-100:].cpu(), reference.bounded_fprop(x[-100:].cpu(), weight.cpu(), None))


# ---- bits ----


@pytest.mark.parametrize("size", [NARROW, WIDE, Size(5000, (64, 64, 3))], ids=str)
def test_two_runs_give_the_same_bits(kernels, dtype, size):
    arguments = draw(size, dtype).map(there)
    first = outputs_and_gradients(arguments)
    for _ in range(3):
        for got, want in zip(outputs_and_gradients(arguments), first, strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("size", [Size(700, NARROW.features), Size(700, WIDE.features)], ids=str)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(monkeypatch, dtype, size):
    if dtype == torch.float64:
        return  # it has torch's products only, which choose their order by the batch
    if max(size.features) > 128:
        monkeypatch.setenv("PYFASTNN_CUDA_KERNELS", "own")
    x, weights, biases = draw(size, dtype).map(there)
    whole = mlp(x, weights, biases)
    for rows in (1, 2, 15, 16, 17, 64, 65, 127, 129, 500):
        assert_same_bits(mlp(x[:rows], weights, biases), whole[:rows], f"first {rows}")
        assert_same_bits(mlp(x[-rows:], weights, biases), whole[-rows:], f"last {rows}")
