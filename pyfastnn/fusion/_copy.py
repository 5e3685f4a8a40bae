"""Copies a model; tensors and the hooks of others are shared."""

from __future__ import annotations

import copy
import gc
import types
from typing import Any

from torch import Tensor, nn

_HOOKS = [name for name in nn.Module().__dict__ if name.endswith("_hooks")]
_NOT_COPIED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def copy_sharing_tensors(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model around the same parameters, buffers and other tensors.

    Hooks stay the functions that they are, unless they are methods of a module of the model: then
    they are those of its copy.

    Raises:
        TypeError: if the model holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    modules = set(model.modules())
    for module in modules:
        for hooks in _HOOKS:
            for hook in module.__dict__[hooks].values():
                if getattr(hook, "__self__", None) not in modules:
                    memo[id(hook)] = hook
    memo |= {id(tensor): tensor for tensor in _tensors_in(model)}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(
            f"fuse: this {type(model).__name__} cannot be copied ({error}): use inplace=True"
        ) from error


def _tensors_in(model: nn.Module) -> list[Tensor]:
    """Find the tensors that a deep copy would meet, wherever the model keeps them."""
    found, seen, ahead = [], set(), [model]
    while ahead:
        thing: Any = ahead.pop()
        if id(thing) in seen or isinstance(thing, _NOT_COPIED):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            found.append(thing)
        else:
            ahead.extend(gc.get_referents(thing))
    return found
