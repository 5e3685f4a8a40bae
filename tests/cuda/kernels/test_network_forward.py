"""Whole networks, forward: launch.h's network_forward, executed."""

import numpy as np
import pytest
from host import Device, Network, from_bits, to_bits
from host.cases import KINDS, random_network, random_rows
from host.reference import assert_same_bits, assert_within, fprop

CASES = [
    (1, (1, 1)),
    (64, (64, 64, 64)),
    (65, (72, 33, 128, 1)),
    (130, (3, 17, 5)),
    (63, (128, 128, 65)),
    (257, (2, 8, 8, 3)),
]
WIDTHS = [*range(1, 129, 9), 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128]


def check(network, x, outputs):
    """Each layer from what the kernel gave for the one before."""
    rows = x
    for index, (w, b, y) in enumerate(zip(network.weights, network.biases, outputs, strict=True)):
        relu = network.activate_last or index + 1 < network.depth
        right = fprop(rows, w, b, network.dtype, relu, network.tf32)
        assert_within(y, right, network.dtype, f"layer {index}")
        rows = y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows, sizes", CASES, ids=str)
def test_values_are_within_their_bounds(kind, rows, sizes):
    for bias, activate_last in ((True, False), (False, True)):
        network = random_network(sizes, kind, bias=bias, activate_last=activate_last)
        x = random_rows(rows, sizes[0], network.dtype)
        check(network, x, network.forward(Device(), x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", sorted(set(WIDTHS)))
def test_any_width_up_to_128(kind, width):
    network = random_network((width, 129 - width), kind)
    x = random_rows(5, width, network.dtype)
    check(network, x, network.forward(Device(), x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 127, 128, 129])
def test_any_number_of_rows(kind, rows):
    network = random_network((16, 16), kind)
    x = random_rows(rows, 16, network.dtype)
    check(network, x, network.forward(Device(), x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(17, 17, 17), (33, 16, 70)], ids=str)
def test_small_integers_come_out_exact(kind, sizes):
    network = random_network(sizes, kind, integers=True, activate_last=True)
    x = random_rows(65, sizes[0], network.dtype, integers=True)
    rows = x
    for w, b, y in zip(network.weights, network.biases, network.forward(Device(), x), strict=True):
        w, b, inputs = (from_bits(a, network.dtype) for a in (w, b, rows))
        assert_same_bits(y, to_bits(np.maximum(inputs @ w.T + b, 0) + 0.0, network.dtype))
        rows = y


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_no_other_row(kind):
    network = random_network((20, 40, 10), kind)
    x = random_rows(150, 20, network.dtype)
    together = network.forward(Device(), x)[-1]
    for first, last in ((0, 1), (77, 78), (149, 150), (40, 140)):
        alone = network.forward(Device(), x[first:last].copy())[-1]
        assert_same_bits(together[first:last].copy(), alone, f"rows {first} to {last}")


@pytest.mark.parametrize("kind", KINDS)
def test_wide_kernels_give_the_bits_of_narrow_ones(kind):
    narrow = random_network((40, 30, 64), kind)
    x = random_rows(33, 40, narrow.dtype)
    last = random_network((64, 65), kind)
    wide = Network(
        [*narrow.weights, *last.weights],
        [*narrow.biases, *last.biases],
        narrow.dtype,
        tf32=narrow.tf32,
    )
    outputs = Network(
        narrow.weights, narrow.biases, narrow.dtype, activate_last=True, tf32=narrow.tf32
    ).forward(Device(), x)
    for got, want in zip(wide.forward(Device(), x), outputs, strict=False):
        assert_same_bits(got, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(32, 96, 32), (9, 96, 31)], ids=str)
def test_hidden_outputs_that_nobody_wants_change_nothing(kind, sizes):
    network = random_network(sizes, kind)
    x = random_rows(70, sizes[0], network.dtype)
    kept = network.forward(Device(), x)
    only_last = network.forward(Device(), x, keep_hidden=False)
    assert only_last[0] is None
    assert_same_bits(only_last[-1], kept[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_need_no_alignment(kind):
    network = random_network((64, 128, 32), kind)
    x = random_rows(33, 64, network.dtype)
    skewed, plain = network.forward(Device(skewed=True), x), network.forward(Device(), x)
    for got, want in zip(skewed, plain, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("kind, launches", [("bfloat16", 3), ("tf32", 2), ("float32", 2)])
def test_more_layers_than_one_launch_takes(kind, launches):
    # Outputs of the layers where launches meet pass through the workspace.
    network = random_network((5,) * (100 * (launches - 1) + 3), kind)
    x = random_rows(3, 5, network.dtype)
    device = Device()
    kept = network.forward(device, x)
    assert len(device.launches) == launches
    check(network, x, kept)
    assert_same_bits(network.forward(Device(), x, keep_hidden=False)[-1], kept[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [32, 33, 127])
def test_nan_and_infinity_travel_as_in_relu(kind, width):
    dtype, tf32 = KINDS[kind]
    x = np.zeros((4, width))
    x[0, -1], x[1, -1], x[2, -1] = np.nan, np.inf, -np.inf
    ones = to_bits(np.ones((width, width)), dtype)
    network = Network([ones, ones.copy()], [None, None], dtype, tf32=tf32)
    got = from_bits(network.forward(Device(), to_bits(x, dtype))[-1], dtype)
    # Columns that pad a row must not turn infinity into NaN.
    assert np.isnan(got[0]).all() and (got[1] == np.inf).all() and (got[2:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_launch_nothing(kind):
    network = random_network((4, 3), kind)
    device = Device()
    assert network.forward(device, random_rows(0, 4, network.dtype))[-1].shape == (0, 3)
    assert not device.launches


@pytest.mark.parametrize("sizes", [(129, 4), (4, 129), (4, 200, 4)], ids=str)
def test_wider_networks_are_refused(sizes):
    network = random_network(sizes, "bfloat16")
    with pytest.raises(RuntimeError, match="cudaError 1"):
        network.forward(Device(), random_rows(2, sizes[0], network.dtype))
