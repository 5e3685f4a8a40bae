"""The only list of benchmark shapes, and what one measured cell is.

Everything else in this folder (suites, comparison, tables, picture) asks `grid` for its cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

DTYPES = ("float32", "bfloat16")
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
THREADS = (1, 2)

LAYER_BATCHES = (1, 8, 64, 256, 1024, 4096)
LAYER_SIZES = ((16, 16), (64, 64), (128, 64), (784, 128), (256, 256), (1024, 1024))
LAYERS = tuple((f"{k}-{n}", (k, n), batch) for k, n in LAYER_SIZES for batch in LAYER_BATCHES)

NETS = (
    *(("784-128-64-10", (784, 128, 64, 10), batch) for batch in (1, 16, 64, 1024)),
    ("64-wide x 8 layers", (*(64,) * 8, 3), 65536),
    ("17-256-256-6", (17, 256, 256, 6), 64),
    ("1024 x 5", (1024,) * 5, 1024),
    ("100-300-50-7", (100, 300, 50, 7), 64),
    ("33-65-129-2", (33, 65, 129, 2), 64),
    # 64 MiB of weights: more than a cache holds, so that memory sets the pace of a small batch.
    *(("4096-4096", (4096, 4096), batch) for batch in (16, 128)),
)

# On a CUDA device (benchmarks/cuda.py): widths up to 128 and wider, a small batch and large ones.
CUDA_BATCHES = (64, 4096, 262144)
CUDA_NETS = (
    ("784-128-64-10", (784, 128, 64, 10)),
    ("64-wide x 4 layers", (64, 64, 64, 64, 16)),
    ("128-wide x 8 layers", (*(128,) * 8, 16)),
    ("17-256-256-6", (17, 256, 256, 6)),
    ("1024 x 5", (1024,) * 5),
)

# What is timed. `fprop` and `forward` run under no_grad; `fprop_backward` is given grad_output and
# asks for the gradients of input, weight and bias; `train_step` is forward, cross-entropy, backward
# and a plain SGD update, with loss and optimizer inside the measured time.
LAYER_MODES = ("fprop", "fprop_backward")
NET_MODES = ("forward", "train_step")
MODES = LAYER_MODES + NET_MODES

# A minute's worth: one overhead-bound, one typical and one arithmetic-bound shape of each kind, and
# one that is bound by memory.
QUICK = {
    ("64-64", 8),
    ("784-128", 64),
    ("1024-1024", 256),
    ("784-128-64-10", 64),
    ("17-256-256-6", 64),
    ("4096-4096", 16),
}


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a workload on one shape, in one dtype, with one number of threads.

    Args:
        mode: one of `MODES`.
        name: how tables call the shape, e.g. ``784-128``.
        sizes: features from input to output; two numbers (K, N) for a layer, two or more for a
            network, whose last layer has no ReLU.
        batch: rows of the input (M).
        dtype: ``float32`` or ``bfloat16``.
        threads: threads every provider may use.
    """

    mode: str
    name: str
    sizes: tuple[int, ...]
    batch: int
    dtype: str
    threads: int

    @property
    def is_layer(self) -> bool:
        """Whether this is a single Linear+ReLU layer and not a network."""
        return self.mode in LAYER_MODES

    @property
    def id(self) -> str:
        """Short unique text without spaces, used as test id."""
        name = self.name.replace(" ", "")
        return f"{self.mode}-{name}-b{self.batch}-{self.dtype}-t{self.threads}"

    @property
    def flops(self) -> int:
        """Floating point operations of the matrix products, 2MNK each; nothing else is counted.

        A training step needs no gradient of its input, so the first layer has two products, not
        three.
        """
        products = [2 * self.batch * k * n for k, n in pairwise(self.sizes)]
        if self.mode in ("fprop", "forward"):
            return sum(products)
        if self.mode == "fprop_backward":
            return 3 * sum(products)
        return 3 * sum(products) - products[0]

    @property
    def parameter_bytes(self) -> int:
        """Size of all weights and biases in the cell's dtype."""
        return ITEM_BYTES[self.dtype] * sum((k + 1) * n for k, n in pairwise(self.sizes))

    @property
    def compulsory_bytes(self) -> tuple[int, int]:
        """Bytes that a network whose parameters no cache can hold must move in one step.

        Returns:
            Bytes that are only read, and bytes of the update in place, whose reading and writing
            both count. Forward reads every parameter once. The update of a training step reads and
            writes it once more; backward may share that reading, so it adds none. Layers: unknown,
            zero, since their gradients are written too.
        """
        if self.is_layer:
            return 0, 0
        return self.parameter_bytes, 2 * self.parameter_bytes * (self.mode == "train_step")


def grid(
    modes: Iterable[str] = MODES,
    dtypes: Iterable[str] = DTYPES,
    threads: Iterable[int] = THREADS,
    quick: bool = False,
) -> list[Cell]:
    """Cells in measuring order: threads change last, because each count has its own processes.

    Args:
        modes: subset of `MODES`.
        dtypes: subset of `DTYPES`.
        threads: numbers of threads.
        quick: keep only the shapes of `QUICK`.

    Returns:
        One `Cell` for each combination of workload, shape, dtype and threads.
    """
    return [
        Cell(mode, name, sizes, batch, dtype, count)
        for count in threads
        for dtype in dtypes
        for mode in modes
        for name, sizes, batch in (LAYERS if mode in LAYER_MODES else NETS)
        if not quick or (name, batch) in QUICK
    ]
