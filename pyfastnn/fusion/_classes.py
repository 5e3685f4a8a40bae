"""Classes of fused modules: the module's own class with another forward."""

from __future__ import annotations

import copy
import copyreg
import functools
import inspect
from abc import ABCMeta
from typing import Any

import torch
from torch import nn

from pyfastnn.fusion._programs import Program, Programs, make, refused
from pyfastnn.fusion._trace import Unknown

_STATE = "_fused_programs"
_class_of_object: Any = object.__dict__["__class__"]
_made: dict[type[nn.Module], type[nn.Module]] = {}


class Fused:
    """Mixin of all fused classes; ``_fused_base`` is the class that the user wrote."""

    _fused_base: type[nn.Module]

    @property
    def __class__(self) -> Any:
        """The user's class, for ``self.__class__`` in its methods; ``type`` tells the truth."""
        return self._fused_base

    @__class__.setter
    def __class__(self, cls: Any) -> None:
        """Stay fused when sharding or a parametrization derives another class."""
        _class_of_object.__set__(self, fused_class(cls))

    def __init_subclass__(cls) -> None:
        """Keep a hook of the user's class for its subclasses from seeing this one."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Name the user's class: the fused one exists in this process only."""
        reduced = super().__reduce_ex__(protocol)
        if isinstance(reduced, tuple) and reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            cls, *args = reduced[1]
            return (_new, (cls._fused_base, *args), *reduced[2:])
        return reduced

    def __prepare_scriptable__(self) -> nn.Module:
        """Give torch.jit.script, which calls this, the plain module."""
        assert isinstance(self, nn.Module)
        plain = copy.copy(self)
        leave(plain)
        return plain


def is_fused(module: nn.Module) -> bool:
    """Say whether a module has a fused class."""
    return isinstance(module, Fused)


def enter(module: nn.Module) -> None:
    """Give a module the fused class of its class, if its forward has a chain."""
    program = usual_program(module)
    if not program.chains and not program.in_evaluation:
        return
    _set_class(module, fused_class(type(module)))
    if len(_usual_args(module) or ()) == 1:
        programs_of(module).keep(torch.Tensor, [program])


def leave(module: nn.Module) -> None:
    """Give a fused module its own class back."""
    module.__dict__.pop(_STATE, None)
    _set_class(module, own_class(module))


def fused_class(base: type[nn.Module]) -> type[nn.Module]:
    """Return the fused class of a class, always the same.

    Raises:
        TypeError: if the class does not allow subclasses.
    """
    if base not in _made:
        inside = {
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
            "_fused_base": base,
            "forward": _fused_forward(base),
        }
        # Not by the metaclass itself, which may keep a list of classes.
        metaclass = ABCMeta if isinstance(base, ABCMeta) else type
        made = metaclass.__new__(type(base), base.__name__, (Fused, base), inside)
        _made[base] = made
    return _made[base]


def _set_class(module: nn.Module, cls: type[nn.Module]) -> None:
    _class_of_object.__set__(module, cls)


def programs_of(module: nn.Module) -> Programs:
    """Return the programs of a fused module; they belong to this very object."""
    programs: Programs | None = module.__dict__.get(_STATE)
    if programs is None or not programs.belong_to(module):
        programs = module.__dict__[_STATE] = Programs(module)
    return programs


def own_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a module has without ``fuse``."""
    return getattr(type(module), "_fused_base", type(module))


def usual_program(module: nn.Module) -> Program:
    """Return the program for tensors as arguments, and the defaults of the others."""
    args = _usual_args(module)
    forward: Any = own_class(module).forward
    if args is None:
        return refused(forward, "it has keyword arguments without defaults")
    return make(module, forward, args, {})


def _usual_args(module: nn.Module) -> tuple[Unknown, ...] | None:
    parameters = list(inspect.signature(own_class(module).forward).parameters.values())[1:]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return None
    args = tuple(
        Unknown(torch.Tensor)
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    )
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return args or (Unknown(torch.Tensor),) * takes_any


def _fused_forward(base: type[nn.Module]) -> Any:
    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        plain = base.forward
        if torch.compiler.is_exporting():  # an exported program holds the names of parameters
            return plain(self, *args, **kwargs)
        programs = programs_of(self)
        program = programs.known(self, args, kwargs)
        if program is None and not torch.compiler.is_compiling():
            program = programs.add(self, plain, args, kwargs)
        if program is None or not program.chains:
            return plain(self, *args, **kwargs)
        return program.run(self, *args, *kwargs.values())

    return forward


def _new(base: type[nn.Module], *args: Any) -> nn.Module:
    cls = fused_class(base)
    return cls.__new__(cls, *args)
