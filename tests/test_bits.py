"""Bitwise promises: a row does not know its batch, nothing knows the number of threads."""

import pytest
import torch
from cases import Size, draw
from tolerance import assert_same_bits

from pyfastnn.functional import linear_relu, mlp

NETWORKS = [(784, 128, 64, 10), (17, 256, 256, 6), (5, 7, 3), (300, 33), (520, 129), (3, 3)]
BATCHES = [*range(1, 41), 63, 64, 65, 100, 127, 129, 256, 257, 400, 512, 600]


@pytest.mark.parametrize("features", NETWORKS, ids=lambda f: "-".join(map(str, f)))
def test_a_row_has_the_same_bits_alone_and_in_any_batch(isa, dtype, features):
    x, weights, biases = draw(Size(600, features), dtype)
    whole = mlp(x, weights, biases)
    for rows in BATCHES:
        assert_same_bits(mlp(x[:rows], weights, biases), whole[:rows], f"first {rows} rows")
        assert_same_bits(mlp(x[-rows:], weights, biases), whole[-rows:], f"last {rows} rows")
    for row in range(0, 600, 7):
        assert_same_bits(mlp(x[row], weights, biases), whole[row], f"row {row} alone")


def test_a_row_of_one_layer_has_the_same_bits_alone_and_in_any_batch(isa, dtype):
    for k, n in ((784, 128), (257, 65), (1030, 17), (16, 300)):
        x, (w,), (b,) = draw(Size(600, (k, n)), dtype)
        whole = linear_relu(x, w, b)
        for rows in BATCHES:
            got = linear_relu(x[600 - rows :], w, b)
            assert_same_bits(got, whole[600 - rows :], f"last {rows} rows, {k}-{n}")
        for row in range(0, 600, 13):
            assert_same_bits(linear_relu(x[row], w, b), whole[row], f"row {row} alone, {k}-{n}")


def test_an_output_feature_does_not_depend_on_the_other_features(isa, dtype):
    for rows, k in ((1, 300), (9, 784), (64, 20)):
        x, (w,), (b,) = draw(Size(rows, (k, 150)), dtype)
        whole = linear_relu(x, w, b)
        for n in (1, 7, 16, 33, 64, 65, 149):
            assert_same_bits(linear_relu(x, w[:n], b[:n]), whole[:, :n], f"first {n} features")
            assert_same_bits(linear_relu(x, w[-n:], b[-n:]), whole[:, -n:], f"last {n} features")


SHARED_WORK = [
    Size(1, (4096, 2048)),
    Size(3, (1000, 1500)),
    Size(64, (784, 128, 64, 10)),
    Size(500, (300, 400)),
    Size(2000, (784, 128, 64, 10)),
    Size(5000, (17, 64, 64, 6)),
    Size(20000, (3, 5)),
]


def outputs_and_gradients(size: Size, dtype: torch.dtype) -> list[torch.Tensor]:
    arguments = draw(size, dtype).requires_grad()
    y = mlp(*arguments)
    grad = draw(Size(size.rows, (size.features[-1], 1)), dtype, seed=1).input
    return [y.detach(), *torch.autograd.grad(y, arguments.tensors(), grad)]


@pytest.mark.parametrize("size", SHARED_WORK, ids=str)
def test_the_number_of_threads_changes_no_bit_of_outputs_and_gradients(isa, dtype, size, threads):
    torch.set_num_threads(1)
    alone = outputs_and_gradients(size, dtype)
    for count in (2, 3):
        torch.set_num_threads(count)
        for got, want in zip(outputs_and_gradients(size, dtype), alone, strict=True):
            assert_same_bits(got, want, f"{count} threads")


def test_running_again_gives_the_same_bits(isa, dtype):
    for size in (Size(64, (784, 128, 64, 10)), Size(600, (300, 400))):
        first = outputs_and_gradients(size, dtype)
        for _ in range(3):
            for got, want in zip(outputs_and_gradients(size, dtype), first, strict=True):
                assert_same_bits(got, want, str(size))
