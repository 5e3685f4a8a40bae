"""The sizes, layouts and networks that the tests run over."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

# Around every register tile (1 to 14 rows, 8 to 64 columns) and the K blocks of 256 (512 for
# bfloat16 pairs).
EDGE_ROWS = [*range(1, 15), 15, 16, 17, 31, 32, 33, 63, 64, 65, 100]
EDGE_COLUMNS = EDGE_ROWS
EDGE_DEPTHS = [1, 2, 3, 16, 17, 31, 255, 256, 257, 300, 512, 515]


class Size(NamedTuple):
    """M rows, and the features of the input and of every layer."""

    rows: int
    features: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.rows}x{'-'.join(map(str, self.features))}"


LAYERS = [
    Size(1, (784, 512)),
    Size(64, (784, 128)),
    Size(128, (512, 10)),
    Size(32, (300, 1000)),
    Size(600, (64, 64)),
    Size(7, (1, 1)),
]
NETWORKS = [
    Size(1, (784, 128, 64, 10)),
    Size(64, (784, 128, 64, 10)),
    Size(300, (17, 256, 256, 6)),
    Size(33, (5, 7, 3)),
    Size(700, (64, 64, 64, 64, 64)),
]


def contiguous(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def transposed(tensor: Tensor) -> Tensor:
    """The last two dimensions in the other order in memory."""
    if tensor.dim() < 2:
        return strided(tensor)
    return contiguous(tensor.transpose(-1, -2)).transpose(-1, -2)


def strided(tensor: Tensor) -> Tensor:
    """Every second element of every dimension of a larger tensor full of NaN."""
    larger = tensor.new_full([2 * size + 1 for size in tensor.shape], float("nan"))
    view = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
    view.copy_(tensor)
    return view


def sliced(tensor: Tensor) -> Tensor:
    """A block in the middle of a larger tensor full of NaN: rows are further apart than long."""
    larger = tensor.new_full([size + 3 for size in tensor.shape], float("nan"))
    view = larger[tuple(slice(1, 1 + size) for size in tensor.shape)]
    view.copy_(tensor)
    return view


def misaligned(tensor: Tensor) -> Tensor:
    """Contiguous, but one element past any alignment, with NaN on both sides."""
    storage = tensor.new_full([tensor.numel() + 2], float("nan"))
    view = storage[1:-1].view(tensor.shape)
    view.copy_(tensor)
    return view


def row_expanded(tensor: Tensor) -> Tensor:
    """The first row for all rows, with stride 0 (not the same values)."""
    return contiguous(tensor[:1]).expand(tensor.shape)


def column_expanded(tensor: Tensor) -> Tensor:
    """The first column for all columns, with stride 0 (not the same values)."""
    return contiguous(tensor[..., :1]).expand(tensor.shape)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    contiguous,
    transposed,
    strided,
    sliced,
    misaligned,
    row_expanded,
    column_expanded,
]


class Arguments(NamedTuple):
    """What ``functional.mlp`` takes."""

    input: Tensor
    weights: list[Tensor]
    biases: list[Tensor | None]

    def tensors(self) -> list[Tensor]:
        """Input, weight 0, bias 0, weight 1, ... without missing biases."""
        pairs = zip(self.weights, self.biases, strict=True)
        return [self.input, *(t for pair in pairs for t in pair if t is not None)]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Arguments":
        biases = [None if bias is None else change(bias) for bias in self.biases]
        return Arguments(change(self.input), [change(w) for w in self.weights], biases)

    def requires_grad(self) -> "Arguments":
        """New leaves that share the memory."""
        return self.map(lambda tensor: tensor.detach().requires_grad_())


def draw(size: Size, dtype: torch.dtype, bias: bool = True, seed: int = 0) -> Arguments:
    """Random arguments, scaled so that activations keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    weights, biases = [], []
    for k, n in pairwise(size.features):
        weights.append((normal(n, k) * (2 / k) ** 0.5).to(dtype))
        biases.append(normal(n).mul(0.3).to(dtype) if bias else None)
    return Arguments(normal(size.rows, size.features[0]).to(dtype), weights, biases)


def integers(*shape: int, low: int = -3, high: int = 3, seed: int = 0) -> Tensor:
    """Small integers in float64; sums of their products are exact in float32, in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator).double()


def extended_matmul(a: Tensor, b: Tensor) -> np.ndarray:
    """``a @ b`` in numpy's widest float: something to measure float64 results by."""
    return a.double().numpy().astype(np.longdouble) @ b.double().numpy().astype(np.longdouble)


def rms_error(got: Tensor, want: np.ndarray) -> float:
    difference = got.detach().double().numpy() - want
    return float(np.sqrt(np.mean(difference * difference)))


def hand_written_network(
    sizes: list[int], bias: bool = True, activate_last: bool = False, dtype=torch.float32
) -> nn.Sequential:
    """What a user of PyTorch writes in place of ``MLP(sizes)``."""
    layers: list[nn.Module] = []
    for k, n in pairwise(sizes):
        layers += [nn.Linear(k, n, bias, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))
