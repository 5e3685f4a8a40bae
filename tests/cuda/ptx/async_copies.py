"""``cp.async``: copies on their way from global to shared memory, in groups of each thread.

Nothing arrives before the thread waits for it, which is the latest that the hardware may do. A
place that waits for its bytes may not be touched by anybody: a wait that is one group short is a
fault, and no stale number.
"""

from dataclasses import dataclass

import numpy as np

from .faults import Fault, FaultKind
from .memory import Region
from .ordering import NOBODY
from .spaces import Part, note
from .values import Array


@dataclass(slots=True)
class _Batch:
    """Copies of one instruction that have not arrived."""

    threads: Array
    groups: Array
    positions: Array
    data: Array

    def keep(self, rows: Array) -> "_Batch":
        return _Batch(self.threads[rows], self.groups[rows], self.positions[rows], self.data[rows])


class AsyncCopies:
    """All copies in flight."""

    def __init__(self, threads: int, shared: Region) -> None:
        self._shared = shared
        self._commits = np.zeros(threads, np.int64)
        self._pending: list[_Batch] = []
        self._owner = np.full(len(shared.data) // shared.piece + 1, NOBODY, np.int32)

    def issue(self, part: Part, data: Array) -> None:
        """Start copies of ``data[lane]`` to the positions of the part."""
        width = data.shape[1]
        self.check(part, width)
        note(part, width, "write")
        pieces = self._shared.pieces(part.positions, width)
        self._owner[pieces] = part.threads[:, None]
        groups = self._commits[part.threads]
        self._pending.append(_Batch(part.threads, groups, part.positions, data))

    def commit(self, threads: Array) -> None:
        """``commit_group``: what was issued since the last one is a group."""
        self._commits[threads] += 1

    def wait(self, threads: Array, newest: int) -> None:
        """``wait_group``: all but the ``newest`` youngest groups of the threads have arrived."""
        limit = np.zeros(len(self._commits), np.int64)
        limit[threads] = self._commits[threads] - newest
        self._arrive(limit)

    def wait_all(self, threads: Array) -> None:
        """``wait_all``: also what no group holds yet."""
        limit = np.zeros(len(self._commits), np.int64)
        limit[threads] = self._commits[threads] + 1
        self._arrive(limit)

    def _arrive(self, limit: Array) -> None:
        """Finish the copies of thread ``t`` in groups below ``limit[t]``."""
        remaining = []
        for batch in self._pending:
            done = batch.groups < limit[batch.threads]
            if done.any():
                self._finish(batch.keep(done))
            if not done.all():
                remaining.append(batch.keep(~done))
        self._pending = remaining

    def _finish(self, batch: _Batch) -> None:
        width = batch.data.shape[1]
        self._shared.store(batch.positions, batch.data)
        self._owner[self._shared.pieces(batch.positions, width)] = NOBODY
        note(Part(self._shared, slice(None), batch.threads, batch.positions), width, "write")

    def check(self, part: Part, width: int) -> None:
        """Fault if the access meets bytes that are on their way."""
        if part.region is not self._shared or not self._pending:
            return
        owners = self._owner[self._shared.pieces(part.positions, width)]
        waiting = owners != NOBODY
        if waiting.any():
            row, column = (int(axis[0]) for axis in np.nonzero(waiting))
            offset = int(part.positions[row]) % max(1, self._shared.stride)
            raise Fault(
                FaultKind.IN_FLIGHT,
                f"{{0}} touches byte {offset} of shared memory, which a cp.async of {{1}} is still "
                "to fill: it has not waited for that group",
                (int(part.threads[row]), int(owners[row, column])),
            )
