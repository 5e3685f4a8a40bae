"""What a traced forward read from Python, and whether it is still so.

A trace holds for the attributes, children and globals that it saw: flags such as ``training``,
lists of layers, constants of a module. Every call compares them before it runs what was traced.
"""

from __future__ import annotations

import enum
import types
from typing import Any

import torch
from torch import nn

MISSING = object()
_CONSTANTS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.memory_format,
    torch.layout,
    enum.Enum,
)
_IDENTITIES = (  # things that are what they are: another one is another object
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    torch.Tensor,
    nn.Module,
)
_CONTAINERS = (list, dict, set)


class Refusal(Exception):
    """Why a forward cannot be traced so that the result is always right."""


class Reads:
    """A list of what was read; :meth:`hold` asks whether all of it is unchanged."""

    def __init__(self) -> None:
        self._root: list[tuple[str, Any]] = []
        self._items: list[tuple[dict[Any, Any], Any, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._present: list[tuple[dict[str, Any], str, bool]] = []

    def attribute_of_root(self, name: str, value: Any, described: str) -> None:
        """Note an entry in the ``__dict__`` of the module that is traced.

        That dict itself is not kept: it would hold the module alive in a cycle.
        """
        if all(name != known for known, _ in self._root):
            self._root.append((name, value))
            self.content(value, described)

    def item(self, where: dict[Any, Any], key: Any, value: Any, described: str) -> None:
        """Note an entry of a dict; MISSING if there is none."""
        if all(where is not known or key != name for known, name, _ in self._items):
            self._items.append((where, key, value))
            self.content(value, described)

    def attribute(self, owner: Any, name: str, value: Any, described: str) -> None:
        """Note an attribute of a class or of a Python module."""
        if all(
            owner is not known or name != known_name for known, known_name, _ in self._attributes
        ):
            self._attributes.append((owner, name, value))
            self.content(value, described)

    def presence(self, where: dict[str, Any], key: str) -> None:
        """Note whether an entry is None; parameters are read anew at every call."""
        self._present.append((where, key, where.get(key) is not None))

    def content(self, value: Any, described: str) -> None:
        """Note what a value holds, if it can change in place.

        Raises:
            Refusal: if that cannot be told.
        """
        if value is MISSING or _is_constant(value) or isinstance(value, _IDENTITIES):
            return
        inside = value if isinstance(value, _CONTAINERS) else getattr(value, "__dict__", None)
        if not isinstance(inside, _CONTAINERS) or not all(map(_is_comparable, _values(inside))):
            raise Refusal(f"it reads {described}, a {type(value).__name__} that may change unseen")
        if all(inside is not known for known, _ in self._contents):
            self._contents.append((inside, inside.copy()))

    def hold(self, root: dict[str, Any]) -> bool:
        """Say whether all is as it was; ``root`` is the ``__dict__`` of the traced module."""
        for name, value in self._root:
            if root.get(name, MISSING) is not value and _differs(root.get(name, MISSING), value):
                return False
        for where, key, value in self._items:
            if where.get(key, MISSING) is not value and _differs(where.get(key, MISSING), value):
                return False
        for owner, name, value in self._attributes:
            if _differs(getattr(owner, name, MISSING), value):
                return False
        for where, key, present in self._present:
            if (where.get(key) is not None) is not present:
                return False
        for inside, copy in self._contents:
            if inside != copy:
                return False
        return True

    def restore_contents(self) -> bool:
        """Undo what the trace itself changed in place; say whether it did."""
        changed = [(inside, copy) for inside, copy in self._contents if inside != copy]
        for inside, copy in changed:
            if isinstance(inside, list):
                inside[:] = copy
            else:
                inside.clear()
                inside.update(copy)
        return bool(changed)


def _values(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_comparable, value))
    return isinstance(value, _CONSTANTS)


def _is_comparable(value: Any) -> bool:
    """Say whether == on two such values is a bool and cannot miss a change."""
    if isinstance(value, torch.Tensor):
        return False
    return _is_constant(value) or isinstance(value, _IDENTITIES)


def _differs(now: Any, value: Any) -> bool:
    same = now is value or (type(now) is type(value) and _is_constant(value) and now == value)
    return not same
