"""Values of linear_relu and mlp: exact where exact is possible, within the bound elsewhere."""

from itertools import pairwise

import cases
import pytest
import torch
from cases import LAYERS, LAYOUTS, NETWORKS, Size, draw, integers
from tolerance import assert_equal, assert_same_bits, assert_within

from pyfastnn import reference
from pyfastnn.functional import linear_relu, mlp

ops = torch.ops.pyfastnn


@pytest.mark.parametrize("k", cases.EDGE_DEPTHS)
def test_small_integers_are_exact_at_every_tile_edge(isa, dtype, k):
    largest = max(cases.EDGE_ROWS)
    x, w, b = integers(largest, k, seed=1), integers(largest, k, seed=2), integers(largest, seed=3)
    for bias in (b, None):
        right = reference.fprop(x, w, bias).to(dtype)
        # Without a bias only the epilogue differs: a sixth of the columns will do.
        columns = cases.EDGE_COLUMNS if bias is not None else cases.EDGE_COLUMNS[::6]
        weights = {
            n: (w[:n].to(dtype), None if bias is None else bias[:n].to(dtype)) for n in columns
        }
        for m in cases.EDGE_ROWS:
            rows = x[:m].to(dtype)
            for n, (weight, short_bias) in weights.items():
                got = linear_relu(rows, weight, short_bias)
                assert_equal(got, right[:m, :n], f"M={m} N={n} K={k} bias={bias is not None}")


@pytest.mark.parametrize("activate_last", [True, False])
def test_networks_of_small_integers_are_exact(isa, dtype, activate_last):
    for rows in (1, 2, 13, 65, 300):
        for features in ((3, 5), (17, 9, 4), (16, 33, 16, 1), (8, 8, 8, 8, 8)):
            # Sums stay below 256 for the sparse weights, so that every layer is exact in bfloat16.
            x = integers(rows, features[0], low=-1, high=1, seed=rows)
            weights = [
                integers(n, k, low=-1, high=1, seed=n + k) * (integers(n, k, seed=k) == 3)
                for k, n in pairwise(features)
            ]
            biases = [integers(n, low=-1, high=1, seed=n) for n in features[1:]]
            right = reference.mlp_forward(x, weights, biases, activate_last)
            assert max(layer.abs().max() for layer in right) < 256
            arguments = cases.Arguments(x, weights, biases).map(lambda tensor: tensor.to(dtype))
            what = f"{rows} rows of {features}"
            assert_equal(mlp(*arguments, activate_last), right[-1].to(dtype), what)
            for got, layer in zip(ops.mlp_forward(*arguments, activate_last), right, strict=True):
                assert_equal(got, layer.to(dtype), what)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", LAYERS, ids=str)
def test_linear_relu_is_within_the_bound(isa, dtype, size, bias):
    x, (w,), (b,) = draw(size, dtype, bias)
    assert_within(linear_relu(x, w, b), reference.bounded_fprop(x, w, b))


@pytest.mark.parametrize("activate_last", [True, False])
@pytest.mark.parametrize("size", NETWORKS, ids=str)
def test_every_layer_of_mlp_is_within_the_bound(isa, dtype, size, activate_last):
    x, weights, biases = draw(size, dtype)
    outputs = ops.mlp_forward(x, weights, biases, activate_last)
    for layer, (layer_input, w, b) in enumerate(
        zip([x, *outputs[:-1]], weights, biases, strict=True)
    ):
        activate = activate_last or layer + 1 < len(weights)
        right = reference.bounded_fprop(layer_input, w, b, activate)
        assert_within(outputs[layer], right, f"layer {layer}")
    assert_same_bits(mlp(x, weights, biases, activate_last), outputs[-1])


def test_mlp_has_the_bits_of_its_layers_one_by_one(isa, dtype):
    for size in NETWORKS:
        x, weights, biases = draw(size, dtype)
        hidden = x
        for w, b in zip(weights, biases, strict=True):
            hidden = linear_relu(hidden, w, b)
        assert_same_bits(mlp(x, weights, biases, activate_last=True), hidden, str(size))


@pytest.mark.parametrize(
    "size", [Size(64, (k, 100)) for k in (16, 64, 256, 300, 784, 1024, 4096)], ids=str
)
def test_error_is_at_most_one_and_a_half_times_that_of_torch(isa, dtype, size):
    x, (w,), (b,) = draw(size, dtype)
    right = cases.extended_matmul(x, w.T) + b.double().numpy()
    right = right * (right > 0)
    ours = cases.rms_error(linear_relu(x, w, b), right)
    assert ours <= 1.5 * cases.rms_error(reference.fprop(x, w, b), right)


@pytest.mark.parametrize("parameters", [cases.contiguous, cases.transposed, cases.sliced])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_do_not_change_a_bit(isa, dtype, layout, parameters):
    for size in (Size(9, (5, 20)), Size(1, (64, 33)), Size(40, (300, 17, 6))):
        x, weights, biases = draw(size, dtype)
        x = layout(x)
        moved = cases.Arguments(x, weights, biases).map(parameters)
        want = mlp(cases.contiguous(x), weights, biases, True)
        what = str(size)
        assert_same_bits(mlp(x, moved.weights, moved.biases, True), want, what)
        if len(weights) == 1:
            assert_same_bits(linear_relu(x, moved.weights[0], moved.biases[0]), want, what)


def test_parameters_and_inputs_that_overlap_in_memory(isa, dtype):
    _, (w,), (b,) = draw(Size(1, (12, 20)), dtype)
    bias = b[:1].expand(20)
    x = draw(Size(1, (40, 1)), dtype).input[0].unfold(0, 12, 1)
    assert x.stride() == (1, 1)
    for weight in (w, cases.row_expanded(w), cases.column_expanded(w)):
        assert_within(linear_relu(x, weight, bias), reference.bounded_fprop(x, weight, bias))
