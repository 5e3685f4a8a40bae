"""The log of a memory too large for one entry per piece: it has pages, where it was touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from .access_log import AccessLog, Conflict
from .ordering import NOBODY, Ordering
from .values import Array

_PAGE: Final = 1 << 12


class PagedLog(AccessLog):
    """An :class:`AccessLog` whose entries are made when a page of pieces is first touched."""

    def __init__(self, pieces: int, ordering: Ordering) -> None:
        super().__init__(0, ordering)
        self._slots = np.full(-(-pieces // _PAGE), NOBODY, np.int32)  # entries of a page
        self._pages = np.zeros(0, np.int64)  # the reverse

    def read(self, pieces: Array, threads: Array) -> None:
        """As of the whole log."""
        with self._pieces_named():
            super().read(self._entries(pieces), threads)

    def write(self, pieces: Array, threads: Array, *, atomic: bool = False) -> None:
        """As of the whole log."""
        with self._pieces_named():
            super().write(self._entries(pieces), threads, atomic=atomic)

    def never_written(self, pieces: Array) -> Array:
        """As of the whole log."""
        return super().never_written(self._entries(pieces))

    def _entries(self, pieces: Array) -> Array:
        """Where the pieces have their entries."""
        pages = pieces // _PAGE
        fresh = np.unique(pages[self._slots[pages] == NOBODY])
        if len(fresh):
            self._slots[fresh] = len(self._pages) + np.arange(len(fresh))
            self._pages = np.concatenate([self._pages, fresh])
            self._grow(len(self._pages) * _PAGE)
        return np.asarray(self._slots[pages].astype(np.int64) * _PAGE + pieces % _PAGE)

    def _grow(self, entries: int) -> None:
        """Have at least so many entries."""
        if entries <= len(self.writer):
            return
        known = vars(self).copy()
        self._clear(2 * entries)
        for name, values in vars(self).items():
            if values is not known[name]:
                values[: len(known[name])] = known[name]

    @contextmanager
    def _pieces_named(self) -> Iterator[None]:
        """Name the piece of a conflict, not its entry."""
        try:
            yield
        except Conflict as conflict:
            page, rest = divmod(conflict.piece, _PAGE)
            conflict.piece = int(self._pages[page]) * _PAGE + rest
            raise
