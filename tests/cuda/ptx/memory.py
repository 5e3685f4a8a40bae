"""The memories of a grid, and how an address finds its bytes.

Every array of global memory lies gigabytes away from the next, so that an index that leaves one
array cannot meet another by accident. Generic addresses of shared and local memory have windows of
their own, as on the hardware.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .access_log import AccessLog
from .faults import Fault, FaultKind
from .values import Array

SHARED_WINDOW: Final = 1 << 40
LOCAL_WINDOW: Final = 1 << 41
PARAMETER_WINDOW: Final = 1 << 42
GLOBAL_WINDOW: Final = 1 << 44
WINDOW: Final = 1 << 32
STEP: Final = 1 << 36  # between the arrays of global memory


@dataclass(slots=True)
class Region:
    """Bytes under one name with one bound.

    Attributes:
        name: for messages and counts.
        data: all the bytes; for shared and local memory one stretch after the other.
        size: bytes that one owner may use, of ``stride``.
        stride: from owner to owner; 0 where all threads share the bytes.
        log: accesses, or None where no race is possible or asked for.
        piece: bytes of a piece of the log.
        read_only: whether a store is a fault.
    """

    name: str
    data: Array
    size: int
    stride: int = 0
    log: AccessLog | None = None
    piece: int = 1
    read_only: bool = False

    def check(self, offsets: Array, width: int, threads: Array) -> None:
        """Fault unless every access of ``width`` bytes lies inside."""
        outside = (offsets < 0) | (offsets + width > self.size)
        if outside.any():
            at = int(np.nonzero(outside)[0][0])
            raise Fault(
                FaultKind.OUT_OF_BOUNDS,
                f"{width} bytes at byte {int(offsets[at])} of {self.name}, "
                f"which has {self.size} bytes",
                threads[outside],
            )

    def load(self, positions: Array, width: int) -> Array:
        """Bytes ``[lanes, width]``; positions are multiples of the width."""
        rows = self.data[: len(self.data) // width * width].reshape(-1, width)
        return np.asarray(rows[positions // width])

    def store(self, positions: Array, data: Array) -> None:
        """The reverse; of several stores to one place the last lane's stays."""
        width = data.shape[1]
        rows = self.data[: len(self.data) // width * width].reshape(-1, width)
        rows[positions // width] = data

    def pieces(self, positions: Array, width: int) -> Array:
        """Pieces ``[lanes, n]`` of the log that the accesses touch."""
        first = positions // self.piece
        return np.asarray(first[:, None] + np.arange(max(1, width // self.piece)))


class GlobalMemory:
    """The arrays that kernels see, each with its name and its bound.

    The numpy arrays are used in place: what a kernel writes is in them afterwards.
    """

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self._arrays: list[Array] = []

    def add(self, array: Array, name: str = "", *, read_only: bool = False) -> int:
        """Make an array visible and return its device address.

        Args:
            array: any dtype, C-contiguous.
            name: for messages and counts; the number of the array where empty.
            read_only: report every store to it.
        """
        name = name or f"array {len(self.regions)}"
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} is not contiguous")
        if any(np.may_share_memory(array, other) for other in self._arrays):
            raise ValueError(f"{name} overlaps another array: pass an address in the whole one")
        data = array.reshape(-1).view(np.uint8)
        read_only = read_only or not array.flags.writeable
        self._arrays.append(array)
        self.regions.append(Region(name, data, data.size, read_only=read_only))
        return GLOBAL_WINDOW + len(self.regions) * STEP

    def address_of(self, array: Array) -> int | None:
        """Address of an array that was added, or None."""
        for index, known in enumerate(self._arrays):
            if known is array:
                return GLOBAL_WINDOW + (index + 1) * STEP
        return None

    def find(self, addresses: Array) -> tuple[Array, Array]:
        """Number of the nearest array, from 0, and signed offset in it."""
        distance = addresses.astype(np.int64) - GLOBAL_WINDOW
        number = (distance + STEP // 2) // STEP
        return number - 1, distance - number * STEP
