"""Sparse matrices by rows, and the same dense."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class Rows(NamedTuple):
    crow: Tensor
    col: Tensor
    values: Tensor
    columns: int

    def dense(self) -> Tensor:
        rows = torch.arange(len(self.crow) - 1).repeat_interleave(self.crow.diff().long())
        dense = torch.zeros(len(self.crow) - 1, self.columns, dtype=torch.float64)
        at = rows, self.col.long()
        return dense.index_put(at, self.values.double(), accumulate=True).to(self.values.dtype)

    def tensor(self) -> Tensor:
        with warnings.catch_warnings():  # torch says once that CSR is in beta
            warnings.simplefilter("ignore", UserWarning)
            shape = len(self.crow) - 1, self.columns
            return torch.sparse_csr_tensor(self.crow, self.col, self.values, shape)

    def scipy(self, make=sparse.csr_array):
        shape = len(self.crow) - 1, self.columns
        arrays = self.values.numpy(), self.col.numpy(), self.crow.numpy()
        return make(arrays, shape=shape)


def draw_rows(rows, columns, most, dtype=torch.float64, index=torch.int64, seed=0, unique=False):
    """Draw up to ``most`` entries a row: the first row has none, columns are not sorted."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, most + 1, rows) if columns else np.zeros(rows, int)
    counts[:1] = 0
    if unique:
        parts = [generator.permutation(columns)[:count] for count in counts]
        col = np.concatenate([*parts, np.zeros(0, int)])
        counts = np.array([len(part) for part in parts], dtype=int)
    else:
        col = generator.integers(0, max(columns, 1), counts.sum())
    crow = np.concatenate([[0], np.cumsum(counts)])
    values = torch.from_numpy(generator.standard_normal(len(col))).to(dtype)
    values[: len(col) // 9] = 0
    return Rows(torch.from_numpy(crow).to(index), torch.from_numpy(col).to(index), values, columns)


def draw_layer(rows, out, dtype=torch.float64, seed=0):
    """Draw a weight, a bias and a gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (out, rows.columns), (out,), (len(rows.crow) - 1, out)
    return [torch.randn(s, dtype=torch.float64, generator=generator).to(dtype) for s in shapes]
