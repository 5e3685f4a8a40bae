"""Which accesses to memory are ordered: a clock for blocks, and one for the lanes of a warp.

Time counts instructions of the interpreter. A thread knows everything that its block did before the
block's last barrier, and everything that a lane of its warp did before the last ``bar.warp.sync``
that they both took part in, directly or through others. Nothing orders two blocks.
"""

from typing import Final

import numpy as np

from .values import WARP, Array

NOBODY: Final = -1


class Ordering:
    """Happens-before between the threads of a grid."""

    def __init__(self, blocks: int, threads_per_block: int) -> None:
        count = blocks * threads_per_block
        self.now = 1
        self.block_of = np.arange(count, dtype=np.int32) // threads_per_block
        self._block_time = np.zeros(blocks, np.int64)
        # [thread, lane]: what the thread knows of the lane of its warp
        self._known = np.zeros((count, WARP), np.int64)

    def block_barrier(self, block: int) -> None:
        """All threads of the block have met."""
        self._block_time[block] = self.now

    def warp_barrier(self, threads: Array, masks: Array) -> None:
        """Lanes have met at ``bar.warp.sync``; those of one warp with one mask met each other."""
        groups = np.unique(np.stack([threads // WARP, masks.astype(np.int64)], axis=1), axis=0)
        for warp, mask in groups:
            members = np.nonzero((int(mask) >> np.arange(WARP)) & 1)[0]
            rows = warp * WARP + members
            known = self._known[rows].max(axis=0)
            known[members] = self.now
            self._known[rows] = known

    def since_barrier(self, threads: Array, times: Array) -> Array:
        """Which times lie after the last barrier of the thread's block."""
        return np.asarray(times >= self._block_time[self.block_of[threads]])

    def knows(self, threads: Array, others: Array, times: Array) -> Array:
        """Whether the thread is ordered after what the other thread did at the time."""
        same_block = self.block_of[threads] == self.block_of[others]
        by_block = same_block & ~self.since_barrier(threads, times)
        same_warp = threads // WARP == others // WARP
        by_warp = same_warp & (self._known[threads, others % WARP] > times)
        return np.asarray(by_block | by_warp | (threads == others))

    def knows_lanes(self, threads: Array, first: Array, last: Array, times: Array) -> Array:
        """The same for all lanes from ``first`` to ``last`` of the thread's own warp at once."""
        lanes = np.arange(WARP)
        asked = (lanes >= (first % WARP)[:, None]) & (lanes <= (last % WARP)[:, None])
        asked &= lanes != (threads % WARP)[:, None]
        known = np.where(asked, self._known[threads], np.iinfo(np.int64).max).min(axis=1)
        return np.asarray(known > times)
