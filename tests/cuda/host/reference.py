"""What is right, in float64, and how far a kernel may be from it: pyfastnn.reference in numpy.

``eps`` is that of the type that sums. TF32 first rounds both operands of a product, each by at most
2^-11 of itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .arrays import DTYPES, from_bits
from .networks import Gradients, Network

_TF32 = 2.0**-10 + 2.0**-22  # of a product of two operands, each rounded by up to 2^-11
_TINY = 2.0**-149


class Bounded(NamedTuple):
    """A value and the largest error that a kernel may make, element by element."""

    value: np.ndarray
    bound: np.ndarray


def _rounded(value: np.ndarray, bound: np.ndarray, dtype: str) -> Bounded:
    """Add the one rounding of a 16-bit result."""
    info = DTYPES[dtype]
    if dtype in ("bfloat16", "float16"):
        bound = bound + info.eps / 2 * (np.abs(value) + bound) + info.tiny
    return Bounded(value, bound)


def fprop(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, dtype: str, relu: bool, tf32: bool = False
) -> Bounded:
    """One layer from the bits of its operands."""
    x, w = from_bits(x, dtype), from_bits(w, dtype)
    bias = 0 if b is None else from_bits(b, dtype)
    value, size = x @ w.T + bias, np.abs(x) @ np.abs(w).T
    bound = 2 * w.shape[1] * DTYPES[dtype].sum_eps * (size + np.abs(bias)) + tf32 * _TF32 * size
    return _rounded(np.maximum(value, 0) if relu else value, bound, dtype)


def mask(gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient where not (y <= 0), else 0."""
    return np.where(y <= 0, 0, gradient)


def bgrad(dz: np.ndarray, dtype: str) -> Bounded:
    """Sum of the rows."""
    bound = 2 * dz.shape[0] * DTYPES[dtype].sum_eps * np.abs(dz).sum(0)
    return _rounded(dz.sum(0), bound, dtype)


def backward(
    network: Network, dy: np.ndarray, x: np.ndarray, outputs: Sequence[np.ndarray]
) -> tuple[Bounded, list[Bounded], list[Bounded]]:
    """Gradients of input, weights and biases; masks come from the outputs, the kernel's own."""
    dtype, rows = network.dtype, x.shape[0]
    eps, tf32 = DTYPES[dtype].sum_eps, network.tf32 * _TF32
    ys = [from_bits(y, dtype) for y in outputs]
    inputs = [from_bits(x, dtype), *ys[:-1]]
    dz = from_bits(dy, dtype)
    if network.activate_last:
        dz = mask(dz, ys[-1])
    error = np.zeros_like(dz)
    weights, biases = [], []
    for layer in reversed(range(network.depth)):
        w = from_bits(network.weights[layer], dtype)
        terms = np.abs(dz) + error
        per_row = error + 2 * rows * eps * terms
        biases.append(_rounded(dz.sum(0), per_row.sum(0), dtype))
        bound = (per_row + tf32 * terms).T @ np.abs(inputs[layer])
        weights.append(_rounded(dz.T @ inputs[layer], bound, dtype))
        bound = (error + (2 * w.shape[0] * eps + tf32) * terms) @ np.abs(w)
        dz, error = _rounded(dz @ w, bound, dtype)
        if layer > 0:
            dz, error = mask(dz, inputs[layer]), mask(error, inputs[layer])
    return Bounded(dz, error), weights[::-1], biases[::-1]


def assert_within(got: np.ndarray, right: Bounded, dtype: str, what: str = "") -> None:
    """Every element within its bound; NaN is wrong."""
    values = from_bits(got, dtype)
    assert values.shape == right.value.shape, f"{what}: {values.shape}, not {right.value.shape}"
    wrong = ~(np.abs(values - right.value) <= right.bound + _TINY)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements are wrong; at {at}: "
            f"got {values[at]!r}, want {right.value[at]!r}, bound {right.bound[at]:.3g}"
        )


def assert_gradients(
    network: Network,
    got: Gradients,
    right: tuple[Bounded, list[Bounded], list[Bounded]],
) -> None:
    """All gradients that were asked for are within their bounds."""
    if got.input is not None:
        assert_within(got.input, right[0], network.dtype, "dX")
    for name, arrays, bounded in (("dW", got.weights, right[1]), ("db", got.biases, right[2])):
        for index, array in enumerate(arrays):
            if array is not None:
                assert_within(array, bounded[index], network.dtype, f"{name}{index}")


def assert_same_bits(got: np.ndarray, want: np.ndarray, what: str = "") -> None:
    """Every bit, signs of zeros and NaN included."""
    unsigned = f"u{got.itemsize}"
    same = got.view(unsigned) == want.view(unsigned)
    assert same.all(), f"{what}: {np.count_nonzero(~same)} of {same.size} elements differ"
