"""Watches the functions that run during a trace: what they read, and what they must not do."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import get_ignored_functions
from torch.utils._device import _device_constructors

from pyfastnn.fusion._code import Code, read_code
from pyfastnn.fusion._proxies import TracedValue
from pyfastnn.fusion._reads import MISSING, Reads, Refusal

# Code of PyTorch that a traced forward may enter: it depends on arguments alone.
_TORCH = (
    "torch.nn.modules",
    "torch.nn.functional",
    "torch.nn.parameter",
    "torch.functional",
    "torch.fx",
    "torch.overrides",
    "torch._tensor",
    "torch._ops",
    "torch._VF",
    "torch._jit_internal",
    "torch._dynamo.utils",  # callbacks of its weak references, when the forward frees a module
    "torch.utils._pytree",
)
_STANDARD = {"abc", "collections", "enum", "functools", "math", "operator", "types", "typing"}
_C_MODULES = {
    None,
    "builtins",
    "math",
    "operator",
    "_operator",
    "itertools",
    "torch",
    "torch._C._nn",
}
_BUILTINS = set(
    """
    abs all any bool dict divmod enumerate filter float getattr hasattr int isinstance issubclass
    iter len list map max min next pow range reversed round set slice sorted str sum super tuple zip
    """.split()
)
_OWNERS = (type, str, bytes, list, tuple, dict, set, int, float, types.ModuleType)


class Calls:
    """Notes what every function that a forward enters can load by name; refuses the rest."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._nested: set[str] = set()  # variables of functions that are traced as well
        # What no mode can record; factories are listed there too, but a mode sees them.
        self._ignored = get_ignored_functions() - set(_device_constructors())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch this thread; a profiler that runs is stopped meanwhile.

        A refusal is raised where the call is made, before it has done anything.
        """
        before: Any = sys.getprofile()
        sys.setprofile(self._notice)
        try:
            yield
        finally:
            sys.setprofile(before if callable(before) else None)
            if hasattr(before, "enable"):  # that of cProfile is not a function
                before.enable()

    def _notice(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._enter(frame)
        elif event == "c_call" and is_user_code(frame):
            self._enter_builtin(argument)

    def _enter(self, frame: types.FrameType) -> None:
        if is_user_code(frame):
            code = read_code(frame.f_code)
            self._nested |= code.nested
            _Names(self._reads, frame, code, self._nested).note()
        elif frame.f_back is not None and is_user_code(frame.f_back):
            module = frame.f_globals.get("__name__", "")
            top = module.split(".")[0]
            known = module.startswith(_TORCH) if top == "torch" else top in _STANDARD
            if not known and top != "pyfastnn":
                raise Refusal(
                    f"it calls {module}.{frame.f_code.co_name}, which depends on more "
                    "than its arguments"
                )

    def _enter_builtin(self, function: Any) -> None:
        name = getattr(function, "__name__", str(function))
        owner = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None)
        if isinstance(owner, types.ModuleType):
            strange = owner.__name__ not in _C_MODULES
            strange = strange or (owner is builtins and name not in _BUILTINS)
        elif type(owner).__module__.split(".")[0] == "torch":
            strange = module not in _C_MODULES
        else:
            strange = module not in _C_MODULES or not (
                owner is None or isinstance(owner, _OWNERS) or issubclass(type(owner), TracedValue)
            )
        strange = strange or (module == "_operator" and name in ("is_", "is_not"))
        if strange or (module == "torch" and function in self._ignored):
            raise Refusal(f"it calls {name}, which depends on or does more than its arguments say")


class _Names:
    """Follows ``NAME.attribute...`` in the code of one call to the values that it loads."""

    def __init__(self, reads: Reads, frame: types.FrameType, code: Code, nested: set[str]) -> None:
        self._reads = reads
        self._frame = frame
        self._code = code
        self._nested = nested
        count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
        self._arguments = set(frame.f_code.co_varnames[:count]) - code.stored

    def note(self) -> None:
        """Note all, and ask about every comparison with None."""
        for name in self._arguments:  # a default argument lives as long as the function
            if type(self._frame.f_locals.get(name)) in (list, dict, set):
                self._reads.content(self._frame.f_locals[name], f"the argument {name}")
        found: Any = MISSING
        known = False  # whether `found` is certain: concrete, or an argument
        before = MISSING, False
        for step in self._code.steps:
            name = str(step.name)
            if step.opname == "IS_OP" or step.opname.endswith(("IF_NONE", "IF_NOT_NONE")):
                asked = before if step.opname == "IS_OP" else (found, known)
                if not asked[1] or (step.opname == "IS_OP" and found is not None):
                    raise Refusal("it asks whether a computed value is a certain object")
            before = found, known
            if step.opname == "LOAD_GLOBAL":
                found, known = self._global(name), True
            elif step.opname == "LOAD_FAST":
                found, known = self._local(name)
            elif step.opname == "LOAD_DEREF":
                found, known = self._free(name)
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                found, known = self._attribute(found, known, name, step.opname)
            elif step.opname == "LOAD_CONST":
                found, known = step.name, True
            elif found is not super or step.opname not in ("PRECALL", "CALL"):
                found, known = MISSING, False
            if isinstance(found, types.ModuleType) and step.next not in (
                "LOAD_ATTR",
                "LOAD_METHOD",
            ):
                raise Refusal(f"it handles the module {found.__name__} as a value")

    def _global(self, name: str) -> Any:
        where = self._frame.f_globals
        if name in where:
            if not isinstance(where[name], types.ModuleType):
                self._reads.item(where, name, where[name], f"the global {name}")
            if isinstance(where[name], nn.Module):
                raise Refusal(f"it reads {name}, a global module")
            return where[name]
        value = getattr(builtins, name, MISSING)
        is_error = isinstance(value, type) and issubclass(value, BaseException)
        if value is MISSING or (callable(value) and name not in _BUILTINS and not is_error):
            raise Refusal(f"it uses {name}")
        return value

    def _local(self, name: str) -> tuple[Any, bool]:
        if name not in self._arguments:
            return MISSING, False
        value = self._frame.f_locals.get(name, MISSING)
        if issubclass(type(value), TracedValue):
            given = object.__getattribute__(value, "known_type") is not None
            return MISSING, given  # an argument of the call is not None, a result may be
        return value, value is not MISSING

    def _free(self, name: str) -> tuple[Any, bool]:
        value = self._frame.f_locals.get(name, MISSING)
        if isinstance(value, (type, types.FunctionType)):
            return value, True
        if name not in self._nested:
            raise Refusal(f"it reads {name}, a variable of the function around it")
        return MISSING, False

    def _attribute(self, owner: Any, known: bool, name: str, opname: str) -> tuple[Any, bool]:
        if owner is MISSING or not known:
            return MISSING, False
        if owner is super:
            if opname == "LOAD_ATTR":
                raise Refusal(f"it reads super().{name}")
            return MISSING, False
        if isinstance(owner, (types.ModuleType, type)):
            value = getattr(owner, name, MISSING)
            if not isinstance(value, types.ModuleType) and not _is_torch(owner):
                self._reads.attribute(owner, name, value, f"{owner.__name__}.{name}")
            return value, True
        if isinstance(owner, types.FunctionType):
            raise Refusal(f"it reads {owner.__name__}.{name}")
        if isinstance(owner, nn.Module):
            return _attribute_of_module(owner, name)
        value = getattr(owner, "__dict__", {}).get(name, MISSING)
        return value, value is not MISSING


def _attribute_of_module(module: nn.Module, name: str) -> tuple[Any, bool]:
    """Look up what the module's own attribute access notes anyhow."""
    state = object.__getattribute__(module, "__dict__")
    if name == "__class__":
        return getattr(type(module), "_fused_base", type(module)), True
    for members in (state, state["_modules"], state["_parameters"], state["_buffers"]):
        if name in members:
            value = members[name]
            return (MISSING, True) if isinstance(value, nn.Parameter) else (value, True)
    return MISSING, hasattr(type(module), name)


def _is_torch(owner: Any) -> bool:
    name = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    return str(name).split(".")[0] in ("torch", "pyfastnn", "math", "operator", "builtins")


def is_user_code(frame: types.FrameType) -> bool:
    """Say whether a frame runs code that neither torch nor Python brought."""
    top = frame.f_globals.get("__name__", "").split(".")[0]
    library = top in ("torch", "pyfastnn") or top in sys.stdlib_module_names
    return not library or top == "__main__"
