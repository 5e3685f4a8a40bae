"""Networks and batches for tests, made from a seed that follows from their sizes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .arrays import to_bits
from .networks import Network

# Every way of multiplying: a dtype, and whether TF32 is allowed.
KINDS = {
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
    "tf32": ("float32", True),
    "float32": ("float32", False),
}


def random_network(
    sizes: Sequence[int],
    kind: str,
    *,
    bias: bool = True,
    activate_last: bool = False,
    integers: bool = False,
) -> Network:
    """Normal weights, scaled so that activations stay near 1; or weights of -1, 0 and 1."""
    generator = np.random.default_rng(sum(sizes))
    dtype, tf32 = KINDS[kind]

    def draw(shape: tuple[int, ...], scale: float) -> np.ndarray:
        if integers:
            return to_bits(generator.integers(-1, 2, shape), dtype)
        return to_bits(generator.standard_normal(shape) * scale, dtype)

    weights = [draw((n, k), k**-0.5) for k, n in pairwise(sizes)]
    biases = [draw((n,), 1) if bias else None for n in sizes[1:]]
    return Network(weights, biases, dtype, activate_last, tf32)


def random_rows(rows: int, columns: int, dtype: str, *, integers: bool = False) -> np.ndarray:
    """A batch of normal numbers, or of -1, 0 and 1."""
    generator = np.random.default_rng(1000 * rows + columns)
    shape = (rows, columns)
    drawn = generator.integers(-1, 2, shape) if integers else generator.standard_normal(shape)
    return to_bits(drawn, dtype)
