"""dZ and db: launch.h's mask_bias, executed."""

import numpy as np
import pytest
from host import DTYPES, Device, from_bits, mask_bias, to_bits
from host.cases import random_rows
from host.reference import assert_same_bits, assert_within, bgrad, mask

SHAPES = [(1, 1), (64, 64), (65, 129), (257, 72), (700, 3), (3, 600)]


def operands(rows, columns, dtype):
    dy = random_rows(rows, columns, dtype)
    y = to_bits(np.maximum(from_bits(random_rows(columns, rows, dtype).T, dtype), 0), dtype)
    return dy, y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_right(dtype, shape):
    dy, y = operands(*shape, dtype)
    dz, db = mask_bias(Device(), dy, y, dtype)
    exact = mask(from_bits(dy, dtype), from_bits(y, dtype))
    assert_same_bits(dz, to_bits(exact, dtype), "dZ")
    assert_within(db, bgrad(exact, dtype), dtype, "db")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("want", ["z", "b"])
def test_each_result_alone_has_the_same_bits(dtype, want):
    dy, y = operands(130, 20, dtype)
    both = mask_bias(Device(), dy, y, dtype)
    alone = mask_bias(Device(), dy, y, dtype, want=want)
    at = "zb".index(want)
    assert_same_bits(alone[at], both[at])
    assert np.isnan(from_bits(alone[1 - at], dtype)).all()  # nobody wrote there


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_an_output_nothing_is_masked(dtype):
    dy, _ = operands(70, 9, dtype)
    dz, db = mask_bias(Device(), dy, None, dtype)
    assert_same_bits(dz, dy)
    assert_within(db, bgrad(from_bits(dy, dtype), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [8, 9])
def test_nan_lets_the_gradient_pass_and_both_zeros_stop_it(dtype, columns):
    y = np.tile([[np.nan], [-np.nan], [0.0], [-0.0], [-1.0], [np.inf], [-np.inf], [1e-7]], columns)
    bits = to_bits(y, dtype)
    if dtype == "bfloat16":
        bits[1] = 0xFFC1  # a NaN with its sign set
    dy = to_bits(np.ones(y.shape), dtype)
    dz, _ = mask_bias(Device(), dy, bits, dtype)
    want = np.tile([[1.0], [1], [0], [0], [0], [1], [0], [1]], columns)
    np.testing.assert_array_equal(from_bits(dz, dtype), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_addresses_need_no_alignment(dtype):
    dy, y = operands(70, 64, dtype)
    for skewed, plain in zip(
        mask_bias(Device(skewed=True), dy, y, dtype),
        mask_bias(Device(), dy, y, dtype),
        strict=True,
    ):
        assert_same_bits(skewed, plain)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_make_a_gradient_of_zeros(dtype):
    dy = np.zeros((0, 5), DTYPES[dtype].storage)
    _, db = mask_bias(Device(), dy, dy, dtype)
    np.testing.assert_array_equal(from_bits(db, dtype), np.zeros(5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_may_be_masked_in_place(dtype):
    dy, y = operands(65, 24, dtype)
    want, _ = mask_bias(Device(), dy, y, dtype)
    mask_bias(Device(), dy, y, dtype, in_place=True)
    assert_same_bits(dy, want)
