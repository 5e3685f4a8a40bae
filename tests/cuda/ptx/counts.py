"""Counters, one entry per instruction of the text, so that any part can be looked at."""

import numpy as np

from .values import WARP, Array

BANKS = 32
SECTOR = 32


def _distinct(threads: Array, values: Array, together: int) -> tuple[Array, Array]:
    """Values ``[lanes, n]`` sorted within groups of lanes, and where each differs from the last.

    Groups without a lane are rows without a first value.
    """
    groups = threads // together
    start = int(groups.min())
    table = np.full((int(groups.max()) - start + 1, together, values.shape[1]), -1, np.int64)
    table[groups - start, threads % together] = values
    flat = np.sort(table.reshape(len(table), -1), axis=1)
    first = flat >= 0
    first[:, 1:] &= flat[:, 1:] != flat[:, :-1]
    return flat, first


def wavefronts(threads: Array, positions: Array, width: int) -> tuple[int, int]:
    """Passes that shared memory needs for one access, and how many more that is than the least.

    Lanes go together as long as they ask for 128 bytes: 32 lanes of up to 4 bytes, 16 of 8, 8 of
    16. In one pass a bank serves one 4-byte word, to any number of lanes.
    """
    together = min(WARP, 128 // width)
    words_each = max(1, width // 4)
    words = positions[:, None] // 4 + np.arange(words_each)
    flat, first = _distinct(threads, words, together)
    bank = np.arange(len(flat))[:, None] * BANKS + flat % BANKS
    load = np.bincount(bank[first], minlength=len(flat) * BANKS).reshape(-1, BANKS).max(axis=1)
    passes = int(load.sum())
    return passes, passes - int(np.count_nonzero(load))


def sectors(threads: Array, positions: Array) -> int:
    """32-byte sectors that the warps touch, each warp by itself."""
    _, first = _distinct(threads, positions[:, None] // SECTOR, WARP)
    return int(first.sum())


class Counts:
    """What a launch did. ``at`` is the instruction that runs; the scheduler sets it.

    Attributes:
        issues: warps that issued the instruction.
        lanes: lanes that executed it.
        wavefronts: passes of shared memory.
        conflicts: passes beyond the least number.
        sectors: 32-byte sectors of global memory.
        loaded: bytes, by array.
        stored: bytes, by array.
    """

    def __init__(self, instructions: int) -> None:
        self.at = 0
        self._size = instructions
        self.issues = np.zeros(instructions, np.int64)
        self.lanes = np.zeros(instructions, np.int64)
        self.wavefronts = np.zeros(instructions, np.int64)
        self.conflicts = np.zeros(instructions, np.int64)
        self.sectors = np.zeros(instructions, np.int64)
        self.loaded: dict[str, Array] = {}
        self.stored: dict[str, Array] = {}

    def issue(self, threads: Array, active: int) -> None:
        """Warps issue the instruction ``at``; its guard lets ``active`` of the threads through."""
        warps = threads // WARP
        self.issues[self.at] += 1 + np.count_nonzero(warps[1:] != warps[:-1])
        self.lanes[self.at] += active

    def shared(self, threads: Array, positions: Array, width: int) -> None:
        """An access to shared memory."""
        passes, extra = wavefronts(threads, positions, width)
        self.wavefronts[self.at] += passes
        self.conflicts[self.at] += extra

    def global_access(
        self, name: str, threads: Array, positions: Array, width: int, *, load: bool, store: bool
    ) -> None:
        """An access to an array of global memory; an atomic one loads and stores."""
        self.sectors[self.at] += sectors(threads, positions)
        for wanted, table in ((load, self.loaded), (store, self.stored)):
            if wanted:
                counts = table.setdefault(name, np.zeros(self._size, np.int64))
                counts[self.at] += width * len(threads)
