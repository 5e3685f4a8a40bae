"""Reads a user's model as a chain of linear layers, or says which part of it is something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules import module as _module

from pyfastnn.fusion._classes import own_class
from pyfastnn.modules import MLP, LinearReLU

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def global_hooks() -> list[dict[Any, Any]]:
    """Return the dicts that hold the hooks of all modules."""
    return [getattr(_module, f"_global{hooks}") for hooks in HOOKS]


class Chain(NamedTuple):
    """The linear layers of a model, and whether a ReLU follows each."""

    linears: list[nn.Linear]
    relu: list[bool]
    flatten: bool


def chain_of(model: nn.Module, who: str, ignores: Callable[[nn.Module], bool]) -> Chain:
    """Read a model as a chain of linear layers with ReLUs behind some of them.

    Args:
        model: nested ``nn.Sequential`` (fused or not) or ``MLP`` of ``nn.Linear``,
            ``LinearReLU``, ``nn.ReLU`` and a leading ``nn.Flatten``, or one of these alone.
        who: whose name messages start with.
        ignores: whether a module may be left out.

    Raises:
        TypeError: if it is something else; the message names the module and the reason.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: expected model to be an nn.Module, got {class_name(model)}")
    if any(global_hooks()):
        raise TypeError(f"{who}: a hook is registered for all modules; it would not run")
    chain = Chain([], [], False)
    flatten = False
    for name, child in _leaves("", model, who):
        if ignores(child):
            continue
        if type(child) in (nn.Linear, LinearReLU):
            chain.linears.append(child)  # type: ignore[arg-type]
            chain.relu.append(type(child) is LinearReLU)
        elif type(child) is nn.ReLU and chain.linears and not chain.relu[-1]:
            chain.relu[-1] = True
        elif _is_leading_flatten(child) and not chain.linears and not flatten:
            flatten = True
        elif type(child) is nn.ReLU:
            raise TypeError(f"{who}: {name or 'model'} is a ReLU that follows no Linear")
        else:
            raise TypeError(
                f"{who}: expected a chain of Linear and ReLU, but {name or 'model'} is "
                f"a {type(child).__name__}"
            )
    if not chain.linears:
        raise TypeError(f"{who}: expected the model to have a Linear layer, it has none")
    return chain._replace(flatten=flatten)


def _is_leading_flatten(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and module.start_dim == 1 and module.end_dim == -1


def _leaves(name: str, module: nn.Module, who: str) -> Iterator[tuple[str, nn.Module]]:
    where = name or "model"
    if any(module.__dict__[hooks] for hooks in HOOKS):
        raise TypeError(f"{who}: {where} has a hook, which would not run")
    if "forward" in module.__dict__:
        raise TypeError(f"{who}: {where} has a forward of its own, which would not run")
    if own_class(module) in (nn.Sequential, MLP):
        for key, child in module._modules.items():
            if child is None:
                raise TypeError(f"{who}: child {key} of {where} is None")
            yield from _leaves(f"{name}.{key}" if name else key, child, who)
        return
    if isinstance(module, nn.Linear) and not {"weight", "bias"} <= module._parameters.keys():
        raise TypeError(f"{who}: {where} computes its parameters (pruning, parametrization)")
    yield name, module


def class_name(thing: object) -> str:
    """Return the name of a thing's class, for messages."""
    return type(thing).__name__
