"""Who last wrote and who read every piece of a memory, to find data races.

A piece is as large as the smallest access of the kernel to that kind of memory. Per piece the log
keeps the last writer, and of the readers since they were last ordered the first, the last and the
time: enough to know whether a later write is ordered after all of them. With ``bar.warp.sync`` of
parts of a warp the lanes between first and last count as readers too: that may report a race that
is none, and never hides one.
"""

from typing import Final

import numpy as np

from .ordering import NOBODY, Ordering
from .values import WARP, Array

_SEVERAL: Final = -2  # threads (or blocks) that wrote atomically, unordered
_NEVER: Final = np.iinfo(np.int32).max


class Conflict(Exception):
    """Two threads touch one piece, at least one writes, nothing orders them."""

    def __init__(self, piece: int, thread: int, verb: str, other: int, other_verb: str) -> None:
        super().__init__(piece, thread, verb, other, other_verb)
        self.piece = piece
        self.thread = thread
        self.verb = verb
        self.other = other
        self.other_verb = other_verb


class AccessLog:
    """Log of one memory of ``pieces`` pieces."""

    def __init__(self, pieces: int, ordering: Ordering) -> None:
        self._ordering = ordering
        self._clear(pieces)

    def _clear(self, pieces: int) -> None:
        """Entries of pieces that nobody has touched."""
        self.writer = np.full(pieces, NOBODY, np.int32)
        self._writer_block = np.full(pieces, NOBODY, np.int32)
        self._written_at = np.zeros(pieces, np.int64)
        self._is_atomic = np.zeros(pieces, bool)
        self._first_reader = np.full(pieces, _NEVER, np.int32)
        self._last_reader = np.full(pieces, NOBODY, np.int32)
        self._read_at = np.zeros(pieces, np.int64)

    def read(self, pieces: Array, threads: Array) -> None:
        """Plain reads of ``pieces[i]`` by ``threads[i]``, all at once.

        Raises:
            Conflict: with a write.
        """
        self._check_against_writer(pieces, threads, "reads")
        ordering = self._ordering
        stale = ~ordering.since_barrier(threads, self._read_at[pieces])
        stale &= self._readers_are_of_one_block(pieces, threads)
        fresh = pieces[stale]
        self._first_reader[fresh] = _NEVER
        self._last_reader[fresh] = NOBODY
        self._extend_readers(pieces, threads)
        self._read_at[pieces] = ordering.now

    def _extend_readers(self, pieces: Array, threads: Array) -> None:
        """Minimum and maximum of readers; several times as fast as ``np.minimum.at``.

        Of assignments to one place the last stays, which is the extreme if threads are in order.
        """
        if (threads[1:] < threads[:-1]).any():
            order = np.argsort(threads, kind="stable")
            pieces, threads = pieces[order], threads[order]
        first = np.minimum(self._first_reader[pieces], threads)
        last = np.maximum(self._last_reader[pieces], threads)
        self._first_reader[pieces[::-1]] = first[::-1]
        self._last_reader[pieces] = last

    def write(self, pieces: Array, threads: Array, *, atomic: bool = False) -> None:
        """Writes; ``atomic`` ones do not race with one another.

        Raises:
            Conflict: with a write or a read.
        """
        verb = "updates" if atomic else "writes"
        several = self._check_against_writer(pieces, threads, verb, atomic=atomic)
        self._check_against_readers(pieces, threads, verb)
        self.writer[pieces] = threads
        twice = self.writer[pieces] != threads
        if twice.any() and not atomic:
            at = int(np.nonzero(twice)[0][0])
            other = int(self.writer[pieces[at]])
            raise Conflict(int(pieces[at]), int(threads[at]), verb, other, verb)
        blocks = self._ordering.block_of[threads]
        other_block = several & (self._writer_block[pieces] != blocks)
        self._writer_block[pieces] = blocks
        if atomic:
            self.writer[pieces[several | twice]] = _SEVERAL
            other_block |= self._writer_block[pieces] != blocks
            self._writer_block[pieces[other_block]] = _SEVERAL
        self._written_at[pieces] = self._ordering.now
        self._is_atomic[pieces] = atomic

    def never_written(self, pieces: Array) -> Array:
        """Which pieces nobody has written."""
        return np.asarray(self.writer[pieces] == NOBODY)

    def _check_against_writer(
        self, pieces: Array, threads: Array, verb: str, *, atomic: bool = False
    ) -> Array:
        """Which pieces were written atomically by others, unordered (only for atomic accesses)."""
        ordering = self._ordering
        writer, times = self.writer[pieces], self._written_at[pieces]
        doubtful = np.asarray((writer != NOBODY) & (writer != threads))
        same_block = self._writer_block[pieces] == ordering.block_of[threads]
        doubtful &= ~same_block | ordering.since_barrier(threads, times)
        if not doubtful.any():
            return doubtful
        known = ordering.knows(threads, np.maximum(writer, 0), times) & (writer != _SEVERAL)
        doubtful &= ~known
        races = doubtful & ~(self._is_atomic[pieces] & atomic)
        if races.any():
            at = int(np.nonzero(races)[0][0])
            other_verb = "updated" if self._is_atomic[pieces[at]] else "wrote"
            raise Conflict(int(pieces[at]), int(threads[at]), verb, int(writer[at]), other_verb)
        return doubtful

    def _readers_are_of_one_block(self, pieces: Array, threads: Array) -> Array:
        """Whether all readers are of the thread's block, whose threads have consecutive numbers."""
        block_of, last = self._ordering.block_of, self._last_reader[pieces]
        first = np.where(last == NOBODY, NOBODY, self._first_reader[pieces])
        mine = block_of[threads]
        return np.asarray((block_of[first] == mine) & (block_of[last] == mine))

    def _check_against_readers(self, pieces: Array, threads: Array, verb: str) -> None:
        ordering = self._ordering
        first, last = self._first_reader[pieces], self._last_reader[pieces]
        times = self._read_at[pieces]
        doubtful = (last != NOBODY) & ~((first == threads) & (last == threads))
        same_block = self._readers_are_of_one_block(pieces, threads)
        doubtful &= ~same_block | ordering.since_barrier(threads, times)
        if not doubtful.any():
            return
        at = np.nonzero(doubtful)[0]
        threads, first, last, times = threads[at], first[at], last[at], times[at]
        one_warp = (first // WARP == threads // WARP) & (last // WARP == threads // WARP)
        races = ~(one_warp & ordering.knows_lanes(threads, first, last, times))
        if races.any():
            row = int(np.nonzero(races)[0][0])
            other = int(first[row] if first[row] != threads[row] else last[row])
            raise Conflict(int(pieces[at[row]]), int(threads[row]), verb, other, "read")
