"""A device made of numpy arrays: memory, and launches that the interpreter executes."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import ptx
from ptx.report import Report

from .arrays import poison, untouched
from .build import built

_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.POINTER(ctypes.c_uint),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
)

_SMALL_GRID = 64


@dataclass(frozen=True)
class Launched:
    """A kernel that ran, with its counts."""

    name: str
    grid: tuple[int, ...]
    threads: int
    shared: int
    report: Report


class Device:
    """Arrays with addresses, and what was launched on them.

    Args:
        skewed: no array starts on more than its element's size.
        last_blocks: how many blocks run, at the end of every large grid; all by default. Then
            results and workspaces start as zeros that are never touched as a whole, for sizes
            beyond memory.

    Attributes:
        launches: in order.
    """

    def __init__(self, *, skewed: bool = False, last_blocks: int | None = None) -> None:
        self.memory = ptx.GlobalMemory()
        self.launches: list[Launched] = []
        self._skewed = skewed
        self._last_blocks = last_blocks
        self._copies: list[tuple[np.ndarray, np.ndarray]] = []
        self._error: BaseException | None = None

    def add(self, array: np.ndarray, name: str, *, read_only: bool = False) -> int:
        """Address of an array that the next call reads and writes; 0 for an empty one."""
        if not array.size:
            return 0
        if not self._skewed:
            return self.memory.add(array, name, read_only=read_only)
        copy = np.concatenate([array.reshape(-1)[:1], array.reshape(-1)])
        self._copies.append((array, copy[1:]))
        return self.memory.add(copy, name, read_only=read_only) + array.itemsize

    def result(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array for results, all NaN: what nobody writes shows."""
        return (poison if self._last_blocks is None else untouched)(shape, dtype)

    def workspace(self, size: int) -> int:
        """Address of so many bytes of NaN; what is read there before it is written shows."""
        if not size:
            return 0
        if self._last_blocks is None:
            return self.memory.add(np.full(size, 0xFF, np.uint8), "workspace")
        memory = untouched((-(-size // 4),), "float32").view(np.uint8)
        return self.memory.add(memory[:size], "workspace")

    def call(self, function: str, *args: Any) -> int:
        """Run host code; what its kernels do wrong is raised here."""
        library = built().library
        library.set_launch(callback := _LAUNCH(self._launch))
        status: int = getattr(library, function)(*args)
        del callback
        for array, copy in self._copies:
            array[...] = copy.reshape(array.shape)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return status

    def _launch(self, name: bytes, grid: Any, block: Any, args: Any, shared: int) -> int:
        try:
            mangled = name.decode()
            kernels = built().kernel(mangled)
            parameters = [
                ctypes.string_at(args[i], parameter.size)
                for i, parameter in enumerate(kernels[mangled].parameters)
            ]
            sizes, threads = tuple(grid[:3]), tuple(block[:3])
            report = ptx.run(
                kernels,
                mangled,
                sizes,
                threads,
                parameters,
                shared,
                memory=self.memory,
                blocks=self._chosen(sizes),
            )
            self.launches.append(Launched(mangled, sizes, int(np.prod(threads)), shared, report))
        except BaseException as error:
            self._error = error
            return 1
        return 0

    def _chosen(self, grid: tuple[int, ...]) -> range | None:
        count = int(np.prod(grid))
        if self._last_blocks is None or count <= _SMALL_GRID:
            return None
        return range(count - self._last_blocks, count)


def pointers(addresses: list[int]) -> Any:
    """A C array of device addresses."""
    return (ctypes.c_void_p * len(addresses))(*addresses)
