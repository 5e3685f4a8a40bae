"""Whole networks, backward: launch.h's network_backward, executed."""

import itertools

import numpy as np
import pytest
from host import Device, from_bits, to_bits
from host.cases import KINDS, random_network, random_rows
from host.networks import Gradients
from host.reference import assert_gradients, assert_same_bits, backward

CASES = [
    (1, (1, 1)),
    (64, (64, 64, 64)),
    (65, (72, 33, 128, 1)),
    (300, (3, 17, 5)),
    (63, (128, 128, 65)),
    (257, (2, 8, 8, 3)),
]


def operands(network, rows, *, integers=False):
    """Input, outputs of the kernel, gradient of the output."""
    x = random_rows(rows, network.weights[0].shape[1], network.dtype, integers=integers)
    dy = random_rows(rows, network.weights[-1].shape[0], network.dtype, integers=integers)
    return dy, x, network.forward(Device(), x)


def arrays(gradients: Gradients):
    pairs = zip(gradients.weights, gradients.biases, strict=True)
    return [gradients.input, *itertools.chain.from_iterable(pairs)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows, sizes", CASES, ids=str)
def test_gradients_are_within_their_bounds(kind, rows, sizes):
    for activate_last in (False, True):
        network = random_network(sizes, kind, activate_last=activate_last)
        given = operands(network, rows)
        got = network.backward(Device(), *given)
        assert_gradients(network, got, backward(network, *given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 7, 31, 32, 33, 63, 65, 100, 127])
def test_any_width_up_to_128(kind, width):
    network = random_network((width, 129 - width), kind, activate_last=True)
    given = operands(network, 5)
    assert_gradients(network, network.backward(Device(), *given), backward(network, *given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(17, 9, 17), (33, 16, 70)], ids=str)
def test_small_integers_come_out_exact(kind, sizes):
    network = random_network(sizes, kind, integers=True, activate_last=True)
    dtype = network.dtype
    given = dy, x, outputs = operands(network, 65, integers=True)
    got = network.backward(Device(), *given)
    inputs = [from_bits(x, dtype), *(from_bits(y, dtype) for y in outputs)]
    gradient = from_bits(dy, dtype)
    for layer in reversed(range(network.depth)):
        dz = np.where(inputs[layer + 1] <= 0, 0, gradient)
        for array, exact in ((got.weights, dz.T @ inputs[layer]), (got.biases, dz.sum(0))):
            want = from_bits(to_bits(exact, dtype), dtype)
            np.testing.assert_array_equal(from_bits(array[layer], dtype), want)
        gradient = from_bits(to_bits(dz @ from_bits(network.weights[layer], dtype), dtype), dtype)
    np.testing.assert_array_equal(from_bits(got.input, dtype), gradient)


@pytest.mark.parametrize(
    "kind, activate_last",
    [("bfloat16", False), ("bfloat16", True), ("tf32", False), ("float32", True)],
)
def test_every_subset_of_gradients_has_the_same_bits(kind, activate_last):
    network = random_network((9, 20, 4), kind, activate_last=activate_last)
    given = operands(network, 40)
    everything = arrays(network.backward(Device(), *given))
    for needs in itertools.product([False, True], repeat=5):
        got = arrays(network.backward(Device(), *given, needs_grad=needs))
        for wanted, some, whole in zip(needs, got, everything, strict=True):
            assert (some is not None) == wanted
            if wanted:
                assert_same_bits(some, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_wanted_launches_nothing(kind):
    network = random_network((9, 20, 4), kind, activate_last=True)
    given = operands(network, 4)
    device = Device()
    network.backward(device, *given, needs_grad=[False] * 5)
    assert not device.launches


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_the_input_gradient_depends_on_no_other_row(kind):
    network = random_network((20, 40, 10), kind)
    dy, x, outputs = operands(network, 150)
    together = network.backward(Device(), dy, x, outputs).input
    some = slice(131, 140)
    alone = network.backward(
        Device(), dy[some].copy(), x[some].copy(), [y[some].copy() for y in outputs]
    ).input
    assert_same_bits(together[some].copy(), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_need_no_alignment(kind):
    network = random_network((64, 128, 32), kind, activate_last=True)
    given = operands(network, 33)
    skewed = arrays(network.backward(Device(skewed=True), *given))
    plain = arrays(network.backward(Device(), *given))
    for got, want in zip(skewed, plain, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("kind, depth", [("bfloat16", 205), ("tf32", 101), ("float32", 101)])
def test_more_layers_than_one_launch_takes(kind, depth):
    # Identity weights, but for a minus in the last layer: every gradient is known exactly.
    network = random_network((5,) * (depth + 1), kind, bias=False)
    last = network.depth - 1
    for index, weight in enumerate(network.weights):
        weight[...] = to_bits(np.eye(5) * (-1 if index == last else 1), network.dtype)
    dtype = network.dtype
    x, dy = random_rows(3, 5, dtype, integers=True), random_rows(3, 5, dtype, integers=True)
    x = to_bits(np.abs(from_bits(x, dtype)) + 1, dtype)  # nothing is masked
    outputs = network.forward(Device(), x)
    device = Device()
    everything = network.backward(device, dy, x, outputs)
    assert len(device.launches) > 4
    gradient = from_bits(dy, dtype)
    for index in reversed(range(network.depth)):
        exact = gradient.T @ from_bits(x, dtype)
        np.testing.assert_array_equal(from_bits(everything.weights[index], dtype), exact)
        if index == last:
            gradient = -gradient
    np.testing.assert_array_equal(from_bits(everything.input, dtype), gradient)
    needs = [True] + [False] * 2 * network.depth
    alone = network.backward(Device(), dy, x, outputs, needs_grad=needs)
    assert_same_bits(alone.input, everything.input)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [32, 33])
def test_masks_let_nan_pass_and_stop_at_both_zeros(kind, width):
    network = random_network((4, width, width), kind, bias=False, activate_last=True)
    dtype = network.dtype
    network.weights[1][...] = to_bits(np.eye(width), dtype)
    values = np.resize([np.nan, 0.0, -0.0, -1.0, 2.0, np.inf, -np.inf], (3, width))
    hidden, last = to_bits(values, dtype), to_bits(values[:, ::-1], dtype)
    if dtype == "bfloat16":
        hidden[0, 0] = 0xFFC1  # a NaN with its sign set
    dy, x = to_bits(np.ones((3, width)), dtype), random_rows(3, 4, dtype)
    got = network.backward(Device(), dy, x, [hidden, last])
    passes_last = ~(values[:, ::-1] <= 0)
    np.testing.assert_array_equal(from_bits(got.biases[1], dtype), passes_last.sum(0))
    passes = passes_last & ~(values <= 0)
    np.testing.assert_array_equal(from_bits(got.biases[0], dtype), passes.sum(0))


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_make_gradients_of_zeros(kind):
    network = random_network((5, 6, 3), kind)
    outputs = [random_rows(0, n, network.dtype) for n in (6, 3)]
    got = network.backward(
        Device(), random_rows(0, 3, network.dtype), random_rows(0, 5, network.dtype), outputs
    )
    for array in arrays(got)[1:]:
        assert not from_bits(array, network.dtype).any()


@pytest.mark.parametrize("kind", KINDS)
def test_weight_gradients_over_several_parts_of_the_rows(kind):
    network = random_network((6, 10), kind)
    given = operands(network, 1100)
    device = Device()
    got = network.backward(device, *given)
    assert any(launched.grid[0] > 1 for launched in device.launches if "wgrad" in launched.name)
    assert_gradients(network, got, backward(network, *given))
