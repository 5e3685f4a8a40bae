"""Copies a tree of modules; parameters, buffers, hooks and all other objects are shared."""

from __future__ import annotations

import types
from typing import Any

from torch import nn

# Dicts that a module owns; their entries are shared, but for child modules.
_OWN = (dict,)


def copy_sharing_tensors(model: nn.Module) -> nn.Module:
    """Return new modules of the same classes around the same tensors.

    Lists, tuples and dicts that hold modules of the tree are copied too, and methods bound to one
    of them are bound to its copy: nothing in the copy refers to a module of the original.
    """
    copies: dict[int, nn.Module] = {}
    for module in model.modules():
        copies[id(module)] = type(module).__new__(type(module))
    for module in model.modules():
        copy = copies[id(module)]
        for name, value in module.__dict__.items():
            copied = _with_copies(value, copies)
            owned = isinstance(value, _OWN) and name in _MODULE_STATE
            copy.__dict__[name] = copied.copy() if owned and copied is value else copied
    return copies[id(model)]


_MODULE_STATE = {name for name, value in nn.Module().__dict__.items() if isinstance(value, dict)}


def _with_copies(value: Any, copies: dict[int, nn.Module]) -> Any:
    """Return a value that refers to the copies; the value itself if it refers to no module."""
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, types.MethodType) and id(value.__self__) in copies:
        return types.MethodType(value.__func__, copies[id(value.__self__)])
    if isinstance(value, dict):
        items = {key: _with_copies(item, copies) for key, item in value.items()}
        if all(items[key] is item for key, item in value.items()):
            return value
        copied = value.copy()
        copied.update(items)
        return copied
    if type(value) in (list, tuple, set):
        entries = [_with_copies(entry, copies) for entry in value]
        if all(new is old for new, old in zip(entries, value, strict=True)):
            return value
        return type(value)(entries)
    return value
