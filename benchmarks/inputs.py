"""The arrays a cell works on: the same numbers for every provider, from numpy alone."""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np

from benchmarks.shapes import Cell

Arrays = dict[str, np.ndarray]

LEARNING_RATE = 1e-3  # small: thousands of timed steps on one batch must not run into denormals


def round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 values to the nearest bfloat16 (ties to even), returned as float32."""
    bits = values.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def make_inputs(cell: Cell) -> Arrays:
    """Random arrays of a cell, exactly representable in its dtype, stored as float32.

    Weights and biases are uniform in ``[-1/sqrt(K), 1/sqrt(K)]`` as in a fresh ``nn.Linear``.

    Returns:
        ``input`` [batch, K]; ``weight.i`` [N, K] and ``bias.i`` [N] of layer i; for layers also
        ``grad_output`` [batch, N]; for networks ``target`` [batch], int64 class indices.
    """
    rng = np.random.default_rng(zlib.crc32(f"{cell.sizes} {cell.batch}".encode()))
    arrays: Arrays = {"input": rng.standard_normal((cell.batch, cell.sizes[0]), np.float32)}
    for i, (k, n) in enumerate(pairwise(cell.sizes)):
        limit = k**-0.5
        arrays[f"weight.{i}"] = rng.uniform(-limit, limit, (n, k)).astype(np.float32)
        arrays[f"bias.{i}"] = rng.uniform(-limit, limit, n).astype(np.float32)
    if cell.is_layer:
        shape = (cell.batch, cell.sizes[-1])
        arrays["grad_output"] = rng.standard_normal(shape, np.float32)
    if cell.dtype == "bfloat16":
        arrays = {name: round_to_bfloat16(values) for name, values in arrays.items()}
    if not cell.is_layer:
        arrays["target"] = rng.integers(0, cell.sizes[-1], cell.batch)
    return arrays
