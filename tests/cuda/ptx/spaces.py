"""From an instruction's state space and addresses to regions, with all checks on the way."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from .access_log import Conflict
from .faults import Fault, FaultKind
from .memory import (
    GLOBAL_WINDOW,
    LOCAL_WINDOW,
    PARAMETER_WINDOW,
    SHARED_WINDOW,
    WINDOW,
    GlobalMemory,
    Region,
)
from .values import Array

WINDOWS: Final = {
    "shared": SHARED_WINDOW,
    "local": LOCAL_WINDOW,
    "param": PARAMETER_WINDOW,
    "const": 0,
    "global": 0,
}


@dataclass(slots=True)
class Part:
    """The lanes of one access that meet one region.

    Attributes:
        region: where.
        rows: which of the lanes, as an index.
        threads: the same lanes as threads.
        positions: first byte in ``region.data``.
    """

    region: Region
    rows: slice | Array
    threads: Array
    positions: Array


class Spaces:
    """All memories of one launch."""

    def __init__(
        self,
        memory: GlobalMemory,
        shared: Region,
        local: Region,
        parameters: Region,
        threads_per_block: int,
    ) -> None:
        self.memory = memory
        self.shared = shared
        self.local = local
        self.parameters = parameters
        self._threads_per_block = threads_per_block

    def parts(self, space: str, addresses: Array, width: int, threads: Array) -> Iterator[Part]:
        """Split an access by region, with alignment and bounds checked.

        Args:
            space: of the instruction, "" for generic addresses.
            addresses: one a lane.
            width: bytes that each lane touches.
            threads: the lanes.
        """
        crooked = addresses % addresses.dtype.type(width) != 0
        if crooked.any():
            at = int(np.nonzero(crooked)[0][0])
            raise Fault(
                FaultKind.MISALIGNED,
                f"{width}-byte access at address {int(addresses[at]):#x}, "
                f"which is not a multiple of {width}",
                threads[crooked],
            )
        addresses = addresses.astype(np.int64)
        if space in {"shared", "local", "param"}:
            everyone = slice(None)
            yield self._owned(space, everyone, addresses, width, threads)
            return
        for window in ("shared", "local", "param"):
            start = WINDOWS[window]
            inside = (addresses >= start) & (addresses < start + WINDOW)
            if inside.any():
                rows = np.nonzero(inside)[0]
                yield self._owned(window, rows, addresses[rows] - start, width, threads[rows])
        far = addresses >= GLOBAL_WINDOW
        low = ~far & ((addresses < SHARED_WINDOW) | (addresses >= PARAMETER_WINDOW + WINDOW))
        if low.any():
            at = int(np.nonzero(low)[0][0])
            raise Fault(
                FaultKind.OUT_OF_BOUNDS,
                f"address {int(addresses[at]):#x} is in no array",
                threads[low],
            )
        yield from self._global(addresses, np.nonzero(far)[0], width, threads)

    def _owned(
        self, window: str, rows: slice | Array, offsets: Array, width: int, threads: Array
    ) -> Part:
        region = {"shared": self.shared, "local": self.local, "param": self.parameters}[window]
        region.check(offsets, width, threads)
        owner = {"shared": threads // self._threads_per_block, "local": threads}.get(window, 0)
        return Part(region, rows, threads, offsets + owner * region.stride)

    def _global(self, addresses: Array, rows: Array, width: int, threads: Array) -> Iterator[Part]:
        if not len(rows):
            return
        numbers, offsets = self.memory.find(addresses[rows])
        present = [int(numbers[0])] if (numbers == numbers[0]).all() else np.unique(numbers)
        for number in present:
            mine = numbers == number
            where = rows[mine]
            if not 0 <= number < len(self.memory.regions):
                raise Fault(
                    FaultKind.OUT_OF_BOUNDS,
                    f"address {int(addresses[where[0]]):#x} is in no array",
                    threads[where],
                )
            region = self.memory.regions[int(number)]
            region.check(offsets[mine], width, threads[where])
            whole = len(where) == len(addresses)
            yield Part(region, slice(None) if whole else where, threads[where], offsets[mine])


def note(part: Part, width: int, verb: str) -> None:
    """Write the access into the region's log.

    Args:
        part: the lanes and where they go.
        width: bytes of each lane.
        verb: ``read``, ``write`` or ``atomic``, or ``constant`` for reads through a cache that does
            not see what the kernel writes.
    """
    region = part.region
    reads = verb in {"read", "constant"}
    if region.read_only and not reads:
        raise Fault(FaultKind.READ_ONLY, f"store to {region.name}", part.threads)
    if region.log is None:
        return
    pieces = region.pieces(part.positions, width)
    threads = np.repeat(part.threads, pieces.shape[1])
    try:
        if reads:
            region.log.read(pieces.ravel(), threads)
        else:
            region.log.write(pieces.ravel(), threads, atomic=verb == "atomic")
    except Conflict as conflict:
        offset = conflict.piece * region.piece
        offset -= offset // region.stride * region.stride if region.stride else 0
        raise Fault(
            FaultKind.RACE,
            f"{{0}} {conflict.verb} byte {offset} of {region.name}, {{1}} {conflict.other_verb} "
            "it, and nothing orders the two",
            (conflict.thread, conflict.other),
        ) from None
    if verb == "constant" and not region.log.never_written(pieces).all():
        raise Fault(
            FaultKind.RACE,
            f"ld.global.nc of {region.name}, which the kernel writes: is a pointer __restrict__ or "
            "const that should not be?",
            part.threads,
        )
