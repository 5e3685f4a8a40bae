"""Watches the functions that run during a trace: what they read, and what they must not do."""

from __future__ import annotations

import builtins
import dis
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import get_ignored_functions
from torch.utils._device import _device_constructors

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
_STANDARD = {
    "abc",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
}
_C_MODULES = {
    None,
    "builtins",
    "math",
    "operator",
    "_operator",
    "itertools",
    "functools",
    "torch",
    "torch._C._nn",
}
_EFFECTS = {"print", "input", "open", "exec", "eval", "globals", "locals", "vars", "breakpoint"}
# A value that is traced has another identity and another class than what it stands for.
_IDENTITY = (type, id)
_OWNERS = (type, str, bytes, list, tuple, dict, set, int, float, type(None), types.ModuleType)


class Calls:
    """Notes the globals of every function that a forward enters, and remembers what to refuse."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._seen: set[types.CodeType] = set()
        self._refusal: Refusal | None = None
        # What no mode can record; factories are listed there too, but a mode sees them.
        self._ignored = get_ignored_functions() - set(_device_constructors())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch this thread; a profiler that runs is stopped meanwhile."""
        before: Any = sys.getprofile()
        sys.setprofile(self._notice)
        try:
            yield
        finally:
            sys.setprofile(before if callable(before) else None)
            if hasattr(before, "enable"):  # that of cProfile is not a function
                before.enable()

    def refuse_what_was_seen(self) -> None:
        """Raise the first refusal; the watcher itself must not raise inside other people's code."""
        if self._refusal is not None:
            raise self._refusal

    def _notice(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if self._refusal is not None:
            return
        try:
            if event == "call":
                self._enter(frame)
            elif event == "c_call" and _is_user_code(frame):
                self._enter_builtin(argument)
        except Refusal as refusal:
            self._refusal = refusal

    def _enter(self, frame: types.FrameType) -> None:
        if _is_user_code(frame):
            if frame.f_code not in self._seen:
                self._seen.add(frame.f_code)
                self._note_names(frame)
        elif frame.f_back is not None and _is_user_code(frame.f_back):
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
        strange = module not in _C_MODULES
        if isinstance(owner, types.ModuleType):
            strange = owner.__name__ not in _C_MODULES
        elif type(owner).__module__.split(".")[0] != "torch":
            strange = strange or not isinstance(owner, _OWNERS)
        if strange or name in _EFFECTS or (module == "torch" and function in self._ignored):
            raise Refusal(f"it calls {name}, which depends on or does more than its arguments say")

    def _note_names(self, frame: types.FrameType) -> None:
        """Follow ``NAME.attribute...`` in the code to the values that it may load."""
        code = frame.f_code
        found: Any = MISSING
        before: dis.Instruction | None = None
        for instruction in dis.get_instructions(code):
            operation, name = instruction.opname, instruction.argval
            if operation in ("CACHE", "PUSH_NULL", "COPY_FREE_VARS"):
                continue
            if operation == "PUSH_EXC_INFO":
                raise Refusal("it catches exceptions or has a with block")
            if _compares_identity(instruction, before, code):
                raise Refusal("it asks whether a computed value is a certain object")
            if operation in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                operation == "STORE_DEREF" and name not in code.co_cellvars
            ):
                raise Refusal(f"it assigns {name}")
            if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
                found = self._global(frame, name)
            elif operation in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                found = self._free(frame, name)
            elif operation in ("LOAD_ATTR", "LOAD_METHOD"):
                found = self._attribute(found, name)
            else:
                found = MISSING
            if found in _IDENTITY:
                raise Refusal(f"it calls {found.__name__}")
            before = instruction

    def _global(self, frame: types.FrameType, name: str) -> Any:
        if name in frame.f_globals:
            value = frame.f_globals[name]
            if not isinstance(value, types.ModuleType):
                self._reads.item(frame.f_globals, name, value, f"the global {name}")
            return value
        return getattr(builtins, name, MISSING)

    def _free(self, frame: types.FrameType, name: str) -> Any:
        if name not in frame.f_locals or any(name in code.co_cellvars for code in self._seen):
            return MISSING  # a variable of a function that is traced as well
        value = frame.f_locals[name]
        if not isinstance(value, (type, types.FunctionType, types.ModuleType)):
            raise Refusal(f"it reads {name}, a variable of the function around it")
        return value

    def _attribute(self, owner: Any, name: str) -> Any:
        """Note data that hangs on a Python module or a class; functions and classes are fixed."""
        if not isinstance(owner, (types.ModuleType, type)) or not hasattr(owner, name):
            return MISSING
        value = getattr(owner, name)
        if not callable(value) and not isinstance(value, types.ModuleType):
            self._reads.attribute(owner, name, value, f"{owner.__name__}.{name}")
        return value


def _compares_identity(
    instruction: dis.Instruction, before: dis.Instruction | None, code: types.CodeType
) -> bool:
    """Say whether ``is`` may be asked of a traced value, whose answer would be frozen.

    Arguments that are None are known, and so are attributes; what is computed is not.
    """
    if instruction.opname.endswith(("IF_NONE", "IF_NOT_NONE")) and before is not None:
        asked = before
    elif instruction.opname == "IS_OP":
        return True
    else:
        return False
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return asked.opname not in ("LOAD_ATTR", "LOAD_GLOBAL") and not (
        asked.opname == "LOAD_FAST" and asked.argval in arguments
    )


def _is_user_code(frame: types.FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    top = module.split(".")[0]
    return (
        top not in ("torch", "pyfastnn") and top not in sys.stdlib_module_names
    ) or top == "__main__"
