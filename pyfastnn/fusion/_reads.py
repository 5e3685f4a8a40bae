"""What a traced forward read from Python, and whether it is still so.

A trace holds for the attributes, children and globals that it saw: flags such as ``training``,
lists of layers, constants of a module. Every call compares them before it runs what was traced.
"""

from __future__ import annotations

import argparse
import enum
import types
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import is_dataclass
from operator import is_
from typing import Any

import torch
from torch import nn

MISSING = object()
CONSTANTS = {
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
}
# Things that are what they are: another one is another object. What hangs on them is noted where it
# is read, or refused.
_IDENTITIES: tuple[type, ...] = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    torch._ops.OpOverload,
    torch._ops.OpOverloadPacket,
    torch.Tensor,
    nn.Module,
    enum.Enum,
)
_CONTAINERS: tuple[type, ...] = (list, dict, set, OrderedDict)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_LARGE = 1000  # entries; comparing them would take longer than the forward


class Refusal(Exception):
    """Why a forward cannot be traced so that the result is always right."""


class Reads:
    """A list of what was read; :meth:`hold` asks whether all of it is unchanged."""

    def __init__(self) -> None:
        self._root: list[tuple[str, Any]] = []
        self._items: list[tuple[dict[Any, Any], Any, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []
        self._present: list[tuple[dict[str, Any], str, bool]] = []
        self._contents: list[_Content] = []

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
        if value is MISSING or _is_fixed(value):
            return
        inside = _inside(value)
        if inside is None or len(inside) > _LARGE:
            raise Refusal(f"it reads {described}, a {type(value).__name__} that may change unseen")
        if any(inside is known.inside for known in self._contents):
            return
        found = _Content(inside)
        self._contents.append(found)
        for entry in found.entries():
            self.content(entry, described)
        if inside is not value:  # an object: what its class says counts too
            for name, default in _data_of_class(type(value)):
                self.attribute(type(value), name, default, described)

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
        for content in self._contents:
            if not content.holds():
                return False
        return True

    def restore_contents(self) -> bool:
        """Undo what the trace itself changed in place; say whether it did."""
        changed = [content for content in self._contents if not content.holds()]
        for content in changed:
            content.restore()
        return bool(changed)


class _Content:
    """The entries of a list, dict or set, compared one by one."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside
        self._keys = list(inside)
        self._values = list(inside.values()) if isinstance(inside, dict) else []
        # == on lists is six times as fast as `is` one by one, where it means the same.
        self._by_equality = all(map(_equals_only_itself, self.entries()))

    def entries(self) -> list[Any]:
        return [*self._keys, *self._values]

    def holds(self) -> bool:
        inside = self.inside
        if len(inside) != len(self._keys):
            return False
        if self._by_equality:
            return list(inside) == self._keys and (
                not self._values or list(inside.values()) == self._values
            )
        return all(map(is_, inside, self._keys)) and (
            not self._values or all(map(is_, inside.values(), self._values))
        )

    def restore(self) -> None:
        self.inside.clear()
        if isinstance(self.inside, list):
            self.inside.extend(self._keys)
        elif isinstance(self.inside, dict):
            self.inside.update(zip(self._keys, self._values, strict=True))
        else:
            self.inside.update(self._keys)


def _equals_only_itself(entry: Any) -> bool:
    by_identity: Any = object.__eq__
    return type(entry) is str or type(entry).__eq__ is by_identity


def _inside(value: Any) -> Any:
    """Return the container to compare: the value itself, or the attributes of a plain object."""
    if type(value) in _CONTAINERS:
        return value
    if isinstance(value, _NAMESPACES) or (
        is_dataclass(type(value)) and not isinstance(value, (list, dict, tuple, set))
    ):
        cls: type = type(value)
        has_slots = any("__slots__" in vars(base) for base in cls.__mro__)
        return None if has_slots else vars(value)
    return None


def _data_of_class(cls: type) -> Iterable[tuple[str, Any]]:
    for base in cls.__mro__[:-1]:
        for name, value in vars(base).items():
            if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__"):
                yield name, value


def _is_fixed(value: Any) -> bool:
    if type(value) is tuple or type(value) is torch.Size:
        return all(map(_is_fixed, value))
    if isinstance(value, types.MethodType):
        return isinstance(value.__self__, (nn.Module, type))
    return type(value) in CONSTANTS or any(isinstance(value, one) for one in _IDENTITIES)


def _differs(now: Any, value: Any) -> bool:
    if now is value:
        return False
    # repr tells 1 from 1.0 and from True, and 0.0 from -0.0
    return type(now) is not type(value) or type(now) not in CONSTANTS or repr(now) != repr(value)
