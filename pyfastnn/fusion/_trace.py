"""Traces a module's forward with ``torch.fx``, and notes all that the trace depends on.

``torch.fx`` alone freezes whatever is not a tensor: flags, constants, random numbers, the state of
grad mode. Here attributes and globals are noted (``_reads.py``), operations on no argument are
recorded like all others, and whatever else could change from call to call is refused: ``_code.py``
says which bytecode is allowed, ``_calls.py`` which functions, ``_proxies.py`` what may be asked of
a value.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pyfastnn.fusion._calls import Calls
from pyfastnn.fusion._proxies import TracedValue, by_library
from pyfastnn.fusion._reads import CONSTANTS, MISSING, Reads, Refusal

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Read by nn.Module itself while it makes a call; a hook or a forward of its own makes a leaf.
_MACHINERY = {"__dict__", *nn.Module().__dict__} - {"training"}
_ARGUMENTS = {*CONSTANTS, tuple, list, dict, slice, type(...)}
_tracing = threading.RLock()  # torch.fx patches nn.Module while it traces


class Trace(NamedTuple):
    """A graph of calls of the children, of functions and methods, and what it depends on."""

    graph: fx.Graph
    reads: Reads


def trace(
    root: nn.Module,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_leaf: Callable[[nn.Module], bool],
) -> Trace:
    """Trace ``forward(root, *args, **kwargs)``.

    Args:
        root: the module.
        forward: its forward as a function.
        args: as in the call; :class:`Unknown` instead of what is not a constant.
        kwargs: likewise.
        is_leaf: whether a child is recorded as one call, not entered.

    Raises:
        Refusal: if the trace would not be right for every call with such arguments.
    """
    tracer = _Tracer(root, forward, args, kwargs, is_leaf)
    reads = tracer.reads
    with _tracing, _patched(tracer):
        try:
            graph = tracer.trace(root)
        except Refusal:
            raise
        except Exception as error:
            message = str(error).strip().split("\n")[0]
            raise Refusal(f"tracing it failed: {type(error).__name__}: {message}") from error
        finally:
            changed = reads.restore_contents()
            tracer.__dict__.clear()  # it is part of a cycle, the parts of the model must not be
    if changed:
        raise Refusal("it changes a list or a dict of the model")
    return Trace(graph, reads)


class Unknown(NamedTuple):
    """Stands for an argument that differs from call to call."""

    type: type


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # read at every call, as parameters are

    def __init__(
        self,
        root: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_leaf: Callable[[nn.Module], bool],
    ) -> None:
        super().__init__()
        self.reads = Reads()
        cls = getattr(type(root), "_fused_base", type(root))
        self.reads.attribute(cls, "forward", forward, "its forward")
        self.calls = Calls(self.reads)
        self.thread = threading.get_ident()
        self.listening = False  # to what the forward reads, not to what torch.fx reads meanwhile
        self._members = {id(module) for module in root.modules()}
        self.made: list[nn.Module] = []  # by the forward itself, like a slice of a list
        self._call = root, forward, args, kwargs
        self._is_leaf = is_leaf

    def create_args_for_root(self, *_: Any, **__: Any) -> tuple[Callable[..., Any], list[Any]]:
        """Return the call, with a placeholder for every argument in the order of the call."""
        root, forward, args, kwargs = self._call
        given = [
            self._placeholder(index, value) for index, value in enumerate([*args, *kwargs.values()])
        ]
        named = dict(zip(kwargs, given[len(args) :], strict=True))

        def call() -> Any:
            with _RecordAll(self), self.calls.watched(), self._listening(True):
                return forward(root, *given[: len(args)], **named)

        return call, []

    def listens_to(self, module: nn.Module) -> bool:
        """Say whether an access counts: of this thread, by the forward, to a part of the model."""
        if not self.listening or threading.get_ident() != self.thread:
            return False
        if id(module) in self._members:
            return True
        if not any(module is one for one in self.made):
            raise Refusal(f"it uses a {type(module).__name__} that is not part of the model")
        return False

    @contextmanager
    def _listening(self, listen: bool) -> Iterator[None]:
        before, self.listening = self.listening, listen
        try:
            yield
        finally:
            self.listening = before

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        """Record a node."""
        with self._listening(False):
            return super().create_proxy(*args, **kwargs)

    def _placeholder(self, index: int, value: Any) -> Any:
        proxy = self.create_proxy("placeholder", f"argument_{index}", (), {})
        if not isinstance(value, Unknown):
            return value
        object.__setattr__(proxy, "known_type", value.type)
        return proxy

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Wrap a node."""
        return TracedValue(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether a child is recorded as one call; one that is entered must keep no hooks."""
        if self._is_leaf(m):
            return True
        for hooks in HOOKS:
            self.reads.content(m.__dict__[hooks], "its hooks")
        self.reads.item(m.__dict__, "forward", MISSING, "its forward")
        return False

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Record a call of a child; other threads make theirs as always."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        if m is self.root:
            raise Refusal("it calls itself")
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Record that a parameter is read; other threads read theirs as always."""
        if threading.get_ident() != self.thread:
            return attr_val
        with self._listening(False):
            return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        """Take only what the traced function can be given, or return, unchanged at every call."""
        if isinstance(a, torch.Tensor):
            held = [*self.root.parameters(), *self.root.buffers(), *self.tensor_attrs]
            if not any(a is one for one in held):
                raise Refusal("it uses a tensor that is neither a parameter nor an attribute")
        elif not isinstance(a, (fx.Proxy, fx.Node)) and type(a) not in _ARGUMENTS:
            raise Refusal(f"it passes or returns a {type(a).__name__}")
        return super().create_arg(a)

    def note_read(self, module: nn.Module, name: str, by_torch: bool) -> None:
        """Note what an attribute access found in the instance, in its members, in its class."""
        state = object.__getattribute__(module, "__dict__")
        described = f"{type(module).__name__}.{name}"
        if name in ("_modules", "_parameters", "_buffers") and by_torch:
            self.reads.content(state[name], described)
        elif name in _MACHINERY:
            if not by_torch:
                raise Refusal(f"it reads {described}")
        elif name in state:
            self._note_entry(module, name, state[name], described)
        elif name in state["_modules"]:
            self.reads.item(state["_modules"], name, state["_modules"][name], described)
        elif name in state["_parameters"] or name in state["_buffers"]:
            self.reads.presence(state["_parameters"], name)
            self.reads.presence(state["_buffers"], name)
        elif not by_torch and not name.startswith("__"):
            # of the class, or nowhere (hasattr, getattr with a default)
            self._note_entry(module, name, MISSING, described)
            cls = getattr(type(module), "_fused_base", type(module))
            value = getattr(cls, name, MISSING)
            if value is MISSING:
                for members in ("_modules", "_parameters", "_buffers"):
                    self.reads.item(state[members], name, MISSING, described)
            if not isinstance(value, property):
                self.reads.attribute(cls, name, value, described)

    def _note_entry(self, module: nn.Module, name: str, value: Any, described: str) -> None:
        if module is self.root:
            self.reads.attribute_of_root(name, value, described)
        else:
            self.reads.item(module.__dict__, name, value, described)


class _RecordAll(TorchFunctionMode):
    """Records operations on real tensors, and on none: they run at every call."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record a call."""
        kwargs = kwargs or {}
        leaves = pytree.tree_leaves((args, kwargs))
        if any(issubclass(type(leaf), fx.Proxy) for leaf in leaves):
            return func(*args, **kwargs)
        if func.__name__ == "__get__":
            if not by_library(sys._getframe(1)):
                raise Refusal("it reads an attribute of a tensor that may be replaced")
            return func(*args, **kwargs)
        if isinstance(func, type(torch.Tensor.add)):
            return self._tracer.create_proxy("call_method", func.__name__, args, kwargs)
        return self._tracer.create_proxy("call_function", func, args, kwargs)


@contextmanager
def _patched(tracer: _Tracer) -> Iterator[None]:
    """Make every module report what is read from it, and refuse what is written."""
    plain_init, plain_get = nn.Module.__init__, nn.Module.__getattribute__
    plain_set, plain_delete = nn.Module.__setattr__, nn.Module.__delattr__

    def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        if tracer.listening and threading.get_ident() == tracer.thread:
            tracer.made.append(module)
        plain_init(module, *args, **kwargs)

    def read(module: nn.Module, name: str) -> Any:
        if tracer.listens_to(module):
            tracer.note_read(module, name, by_torch=by_library(sys._getframe(1)))
        return plain_get(module, name)

    def write(module: nn.Module, name: str, value: Any) -> None:
        if tracer.listens_to(module):
            raise Refusal(f"it assigns {name}")
        plain_set(module, name, value)

    def delete(module: nn.Module, name: str) -> None:
        if tracer.listens_to(module):
            raise Refusal(f"it deletes {name}")
        plain_delete(module, name)

    patches = {
        "__init__": init,
        "__getattribute__": read,
        "__setattr__": write,
        "__delattr__": delete,
    }
    before = {name: vars(nn.Module).get(name) for name in patches}
    for name, patch in patches.items():
        setattr(nn.Module, name, patch)
    try:
        yield
    finally:
        for name, plain in before.items():
            if plain is None:
                delattr(nn.Module, name)
            else:
                setattr(nn.Module, name, plain)
