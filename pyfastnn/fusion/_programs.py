"""What a fused module runs: one traced forward for each kind of arguments and state it meets."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pyfastnn.fusion._chain import Chain
from pyfastnn.fusion._reads import Reads, Refusal
from pyfastnn.fusion._rewrite import rewrite
from pyfastnn.fusion._trace import HOOKS, Unknown, trace

_MOST = 8  # programs for one kind of arguments: what changes at every call is not worth tracing
_MOST_KINDS = 32  # of arguments: a string of its own for every call is not worth it either
_ANY = object()
_CONSTANTS = (type(None), bool, str)
Forward = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Program(NamedTuple):
    """A rewritten forward, right as long as ``reads`` hold."""

    reads: Reads
    run: Callable[..., Any]
    chains: list[Chain]
    left: dict[str, str]
    in_evaluation: bool = False  # see Rewritten
    refusal: str | None = None  # why it is the module's own forward


class Programs:
    """Programs of one module; a copy or a pickle of the module starts with none."""

    def __init__(self, owner: nn.Module | None = None) -> None:
        self._owner = None if owner is None else weakref.ref(owner)
        self._known: dict[Any, list[Program]] = {}  # newest first
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Programs], tuple[()]]:
        """Leave everything out: a copy has other children."""
        return Programs, ()

    def belong_to(self, module: nn.Module) -> bool:
        """Say whether they are of this object; a shallow copy has those of its original."""
        return self._owner is not None and self._owner() is module

    def known(self, root: nn.Module, args: Args, kwargs: Kwargs) -> Program | None:
        """Return the program for such a call, if there is one already. Dynamo can trace it."""
        state = root.__dict__
        for program in self._known.get(_key(args, kwargs)) or self._known.get(_ANY, []):
            if program.reads.hold(state):
                return program
        return None

    def add(self, root: nn.Module, forward: Forward, args: Args, kwargs: Kwargs) -> Program:
        """Make a program for a call ``forward(root, *args, **kwargs)``."""
        if any(issubclass(type(leaf), fx.Proxy) for leaf in pytree.tree_leaves((args, kwargs))):
            return refused(forward, "torch.fx traces it as it was written")
        key = _key(args, kwargs)
        known = self._known.get(key, [])
        if len(known) == _MOST or len(self._known) == _MOST_KINDS:
            program = refused(forward, "what it reads or is called with changes all the time")
            known = []
            key = key if key in self._known else _ANY
        else:
            program = make(root, forward, *_unknown(args, kwargs))
        self.keep(key, [program, *known])
        return program

    def keep(self, key: Any, programs: list[Program]) -> None:
        """Have programs from now on for one kind of arguments; Tensor is a single one."""
        with self._lock:
            self._known[key] = programs

    def current(self, root: nn.Module) -> list[Program]:
        """Return the programs that calls of a module in its present state have run."""
        return [
            program
            for known in self._known.values()
            for program in known
            if program.reads.hold(root.__dict__)
        ]


def make(
    root: nn.Module,
    forward: Forward,
    args: Args,
    kwargs: Kwargs,
) -> Program:
    """Trace a forward and fuse its chains; the forward itself if that cannot be right."""
    try:
        graph, reads = trace(root, forward, args, kwargs, is_leaf)
        run, chains, left, in_evaluation = rewrite(graph, root, reads)
    except Refusal as refusal:
        return refused(forward, str(refusal))
    return Program(reads, run if chains else forward, chains, left, in_evaluation)


def refused(forward: Forward, reason: str) -> Program:
    """Return the module's own forward, and why."""
    return Program(Reads(), forward, [], {}, refusal=reason)


def is_leaf(module: nn.Module) -> bool:
    """Say whether a child is called as it is: all but plain Sequentials."""
    base = getattr(type(module), "_fused_base", type(module))
    return (
        base is not nn.Sequential
        or "forward" in module.__dict__
        or any(module.__dict__[hooks] for hooks in HOOKS)
    )


def _key(args: Args, kwargs: Kwargs) -> Any:
    """Return what calls must have in common to run the same program."""
    if len(args) == 1 and not kwargs and type(args[0]) is Tensor:
        return Tensor
    return tuple(map(_kind, args)), tuple((name, _kind(v)) for name, v in kwargs.items())


def _kind(value: Any) -> Any:
    return (type(value), value) if isinstance(value, _CONSTANTS) else type(value)


def _unknown(args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    def replace(value: Any) -> Any:
        return value if isinstance(value, _CONSTANTS) else Unknown(type(value))

    return tuple(map(replace, args)), {name: replace(value) for name, value in kwargs.items()}
