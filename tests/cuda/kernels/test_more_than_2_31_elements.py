"""Matrices of more than 2^31 elements: the last rows come out as they do alone.

The arrays take memory only where they are touched, and only the last blocks of a grid run.
"""

import struct

import ptx
import pytest
from host import Device, built, linear, mask_bias
from host.arrays import untouched
from host.cases import KINDS, random_network, random_rows
from host.reference import assert_same_bits

MANY = 2**31
LAST = 100  # rows that hold numbers
THREE = ["bfloat16", "tf32", "float32"]  # a dtype of each kernel


def at_the_end(rows, some):
    """A matrix of so many rows, the last of which are these."""
    matrix = untouched((rows, some.shape[1]), "bfloat16" if some.itemsize == 2 else "float32")
    matrix[-len(some) :] = some
    return matrix


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("width", [128, 127])
def test_forward(kind, width):
    network = random_network((width,) * 3, kind)
    x = random_rows(LAST, width, network.dtype)
    got = network.forward(Device(last_blocks=2), at_the_end(MANY // width + LAST, x))
    for many, alone in zip(got, network.forward(Device(), x), strict=True):
        assert_same_bits(many[-LAST:].copy(), alone)


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("width", [128, 127])
def test_data_gradients(kind, width):
    network = random_network((width,) * 3, kind, activate_last=True)
    some = [random_rows(LAST + i, width, network.dtype)[i:].copy() for i in range(4)]
    only_input = [True] + [False] * 4

    def input_gradient(device, dy, x, *outputs):
        return network.backward(device, dy, x, outputs, needs_grad=only_input).input

    many = [at_the_end(MANY // width + LAST, rows) for rows in some]
    got = input_gradient(Device(last_blocks=2), *many)
    assert_same_bits(got[-LAST:].copy(), input_gradient(Device(), *some))


@pytest.mark.parametrize("kind", THREE)
def test_parts_of_weight_gradients(kind):
    network = random_network((128, 128), kind)
    x, dy = (random_rows(60, 128, network.dtype) for _ in range(2))
    device = Device()
    network.backward(device, dy, x, network.forward(Device(), x))
    wgrad = next(launched for launched in device.launches if "wgrad" in launched.name)

    def last_part(rows):
        # Smaller parts than the host would make, so that the last one has few rows.
        memory, per_part = ptx.GlobalMemory(), 64
        count = -(-rows // per_part)
        weights, biases = (untouched((count, 128, n), "float32") for n in (128, 1))
        addresses = [memory.add(at_the_end(rows, a), read_only=True) for a in (dy, x)]
        addresses += [memory.add(a) for a in (weights, biases)]
        layer = struct.pack("<QQQQhhh??", *addresses, 128, 128, 128, True, True)
        parameter = (struct.pack("<qq", rows, per_part) + layer).ljust(4016, b"\0")
        ptx.run(
            built().kernel(wgrad.name), wgrad.name, (count, 1, 1), wgrad.threads, [parameter],
            wgrad.shared, memory=memory, blocks=[count - 1],
        )  # fmt: skip
        return weights[-1].copy(), biases[-1].copy()

    for got, want in zip(last_part(MANY // 128 + 60), last_part(60), strict=True):
        assert want.any()
        assert_same_bits(got, want)


@pytest.mark.parametrize("kind", THREE)
def test_linear_with_many_rows(kind):
    dtype, tf32 = KINDS[kind]
    rows, some = MANY // 40 + LAST, random_rows(LAST, 40, dtype)
    w, b = random_rows(40, 40, dtype), random_rows(40, 1, dtype)[:, 0].copy()
    got = linear(Device(last_blocks=4), at_the_end(rows, some), w, b, dtype, tf32=tf32)
    assert_same_bits(got[-LAST:].copy(), linear(Device(), some, w, b, dtype, tf32=tf32))


@pytest.mark.parametrize("kind", THREE)
def test_linear_with_many_columns(kind):
    # More tiles than a second dimension of a grid may have, too.
    dtype, tf32 = KINDS[kind]
    columns, some = MANY // 40 + LAST, random_rows(LAST, 40, dtype)
    x, b = random_rows(50, 40, dtype), random_rows(LAST, 1, dtype)
    got = linear(
        Device(last_blocks=4), x, at_the_end(columns, some), at_the_end(columns, b)[:, 0], dtype,
        tf32=tf32,
    )  # fmt: skip
    want = linear(Device(), x, some, b[:, 0].copy(), dtype, tf32=tf32)
    assert_same_bits(got[:, -LAST:].copy(), want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_masks_and_sums_of_many_columns(dtype):
    dy, y = (random_rows(2, 256, dtype) for _ in range(2))
    many = [untouched((2, MANY + 256), dtype) for _ in range(2)]
    for matrix, some in zip(many, (dy, y), strict=True):
        matrix[:, -256:] = some
    dz, db = mask_bias(Device(last_blocks=2), *many, dtype)
    want_dz, want_db = mask_bias(Device(), dy, y, dtype)
    assert_same_bits(dz[:, -256:].copy(), want_dz)
    assert_same_bits(db[-256:].copy(), want_db)
