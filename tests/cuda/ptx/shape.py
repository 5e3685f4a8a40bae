"""Sizes of a launch, the numbers of its threads, and what the special registers hold."""

from collections.abc import Sequence

import numpy as np

from .values import WARP, Array

Dim3 = tuple[int, int, int]


class Shape:
    """Sizes of a launch, and the names of its threads.

    Args:
        grid: blocks in each dimension.
        block: threads of a block in each dimension.
        chosen: numbers of the blocks that run, x first; all where None.
    """

    def __init__(self, grid: Dim3, block: Dim3, chosen: Sequence[int] | None = None) -> None:
        self.grid = grid
        self.block = block
        everyone = int(np.prod(grid))
        self.chosen = np.arange(everyone) if chosen is None else np.array(chosen, np.int64)
        if not len(self.chosen) or self.chosen.min() < 0 or self.chosen.max() >= everyone:
            raise ValueError(f"a grid of {everyone} blocks has no blocks {chosen}")
        self.blocks = len(self.chosen)
        self.block_threads = int(np.prod(block))
        self.padded = -(-self.block_threads // WARP) * WARP
        self.threads = self.blocks * self.padded
        self.warps = self.threads // WARP
        numbers = np.arange(self.threads)
        self.block_of = numbers // self.padded
        self.in_block = numbers % self.padded
        self.exists = self.in_block < self.block_threads

    def specials(self) -> dict[str, Array]:
        """Values of the special registers."""
        values: dict[str, Array] = {}
        for axis, name in enumerate("xyz"):
            threads_below = int(np.prod(self.block[:axis]))
            blocks_below = int(np.prod(self.grid[:axis]))
            values[f"%tid.{name}"] = self.in_block // threads_below % self.block[axis]
            values[f"%ctaid.{name}"] = self.chosen[self.block_of] // blocks_below % self.grid[axis]
            values[f"%ntid.{name}"] = np.full(self.threads, self.block[axis])
            values[f"%nctaid.{name}"] = np.full(self.threads, self.grid[axis])
        lane = np.arange(self.threads) % WARP
        values["%laneid"] = lane
        values["%warpid"] = self.in_block // WARP
        values["%nwarpid"] = np.full(self.threads, self.padded // WARP)
        values["WARP_SZ"] = np.full(self.threads, WARP)
        values["%lanemask_eq"] = 1 << lane
        values["%lanemask_lt"] = (1 << lane) - 1
        values["%lanemask_le"] = (2 << lane) - 1
        values["%lanemask_gt"] = 0xFFFFFFFF ^ values["%lanemask_le"]
        values["%lanemask_ge"] = 0xFFFFFFFF ^ values["%lanemask_lt"]
        return values

    def name(self, thread: int) -> str:
        """``block (1, 0, 0) thread 37``; one-dimensional shapes have plain numbers."""
        if thread < 0:
            return "another thread"
        block = _coordinates(int(self.chosen[self.block_of[thread]]), self.grid)
        place = _coordinates(int(self.in_block[thread]), self.block)
        return f"block {block} thread {place}"


def _coordinates(number: int, sizes: Dim3) -> str:
    x, y, z = number % sizes[0], number // sizes[0] % sizes[1], number // (sizes[0] * sizes[1])
    return f"{x}" if sizes[1] == sizes[2] == 1 else f"({x}, {y}, {z})"
