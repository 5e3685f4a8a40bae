"""One layer of any size: launch.h's linear, executed."""

import numpy as np
import pytest
from host import Device, from_bits, linear, to_bits
from host.cases import KINDS, random_rows
from host.reference import assert_same_bits, assert_within, fprop

SHAPES = [(1, 1, 1), (65, 129, 72), (64, 64, 256), (63, 10, 13), (1, 200, 40), (257, 3, 31)]


def operands(m, n, k, dtype, *, integers=False):
    x, w = (random_rows(rows, k, dtype, integers=integers) for rows in (m, n))
    return x, w, random_rows(n, 1, dtype, integers=integers)[:, 0].copy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_within_their_bounds(kind, shape):
    dtype, tf32 = KINDS[kind]
    x, w, b = operands(*shape, dtype)
    for bias, relu in ((b, True), (None, False)):
        got = linear(Device(), x, w, bias, dtype, relu=relu, tf32=tf32)
        assert_within(got, fprop(x, w, bias, dtype, relu, tf32), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_small_integers_come_out_exact(kind):
    dtype, tf32 = KINDS[kind]
    x, w, b = operands(65, 72, 100, dtype, integers=True)
    got = linear(Device(), x, w, b, dtype, tf32=tf32)
    exact = np.maximum(from_bits(x, dtype) @ from_bits(w, dtype).T + from_bits(b, dtype), 0)
    np.testing.assert_array_equal(from_bits(got, dtype), exact)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_no_other_row_and_on_no_tile(kind):
    dtype, tf32 = KINDS[kind]
    x, w, b = operands(90, 70, 45, dtype)
    together = linear(Device(), x, w, b, dtype, tf32=tf32)
    alone = linear(Device(), x[77:78].copy(), w, b, dtype, tf32=tf32)
    assert_same_bits(together[77:78], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_large_tiles_give_the_bits_of_small_ones(kind):
    dtype, tf32 = KINDS[kind]
    # 2 x 128 tiles of 128: just enough to take the large ones. The last two columns of them run.
    x, w, b = operands(129, 127 * 128 + 1, 9, dtype)
    device, last = Device(last_blocks=4), 129
    large = linear(device, x, w, b, dtype, tf32=tf32)[:, -last:].copy()
    assert device.launches[0].grid == (2 * 128, 1, 1)
    w, b = w[-last:].copy(), b[-last:].copy()
    assert_same_bits(large, linear(Device(), x, w, b, dtype, tf32=tf32))
    assert_within(large, fprop(x, w, b, dtype, True, tf32), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_need_no_alignment(kind):
    dtype, tf32 = KINDS[kind]
    x, w, b = operands(66, 64, 64, dtype)
    skewed = linear(Device(skewed=True), x, w, b, dtype, tf32=tf32)
    assert_same_bits(skewed, linear(Device(), x, w, b, dtype, tf32=tf32))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_travel_as_in_relu(kind):
    dtype, tf32 = KINDS[kind]
    x = np.zeros((4, 5))
    x[0, 4], x[1, 4], x[2, 4] = np.nan, np.inf, -np.inf
    w = to_bits(np.ones((70, 5)), dtype)
    got = from_bits(linear(Device(), to_bits(x, dtype), w, None, dtype, tf32=tf32), dtype)
    assert np.isnan(got[0]).all() and (got[1] == np.inf).all() and (got[2:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_sizes(kind):
    dtype, tf32 = KINDS[kind]
    empty = Device()
    assert linear(empty, *operands(0, 3, 5, dtype), dtype, tf32=tf32).shape == (0, 3)
    assert linear(empty, *operands(3, 0, 5, dtype), dtype, tf32=tf32).shape == (3, 0)
    assert not empty.launches
    x, w, b = operands(3, 4, 0, dtype)
    got = linear(Device(), x, w, b, dtype, tf32=tf32)
    bias = to_bits(np.maximum(from_bits(b, dtype), 0), dtype)
    assert_same_bits(got, np.tile(bias, (3, 1)))
