"""Stand-ins for the values of a traced forward: what is done with them is recorded, or refused."""

from __future__ import annotations

import dis
import operator
import sys
from types import FrameType
from typing import Any

from torch import fx

from pyfastnn.fusion._reads import Refusal


class TracedValue(fx.Proxy):
    """A value of a known class, or of an unknown one about which nobody may ask.

    ``torch.fx`` would answer many questions for the stand-in itself (its class, its text, its hash)
    and so freeze the answer.
    """

    known_type: type | None = None

    def __getattr__(self, name: str) -> Any:
        """Record the access; ``hasattr`` and ``getattr`` with a default need a true answer."""
        frame = sys._getframe(1)
        opcode = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if opcode not in ("LOAD_ATTR", "LOAD_METHOD") and not by_library(frame):
            if self.known_type is None or not hasattr(self.known_type, name):
                raise Refusal(f"it asks whether a value has an attribute {name}")
        return _TracedAttribute(self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        if by_library(sys._getframe(1)):
            return TracedValue
        if self.known_type is None:
            raise Refusal("it asks for the type of a value that it computes")
        return self.known_type

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would be lost."""
        if not by_library(sys._getframe(1)):
            raise Refusal(f"it assigns an attribute {name} of a value")
        super().__setattr__(name, value)

    def __iter__(self) -> Any:
        """Record an unpacking, with its check of the length; refuse loops."""
        frame = sys._getframe(1)
        if by_library(frame):
            return super().__iter__()
        instruction = next(
            i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti
        )
        if instruction.opname != "UNPACK_SEQUENCE":
            raise Refusal("it loops over a value that it computes")
        count = instruction.argval
        unpacked = self.tracer.create_proxy("call_function", unpack, (self, count), {})
        return iter([operator.getitem(unpacked, index) for index in range(count)])

    def __hash__(self) -> int:
        """Refuse sets and dicts of values."""
        return self._ask("for the hash of a value", fx.Proxy.__hash__)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """Refuse texts that depend on values."""
        return self._ask("for the text of a value", fx.Proxy.__repr__)  # type: ignore[no-any-return]

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        """Refuse texts that depend on values."""
        raise Refusal("it asks for the text of a value")

    def _ask(self, what: str, answer: Any) -> Any:
        if not by_library(sys._getframe(2)):
            raise Refusal(f"it asks {what}")
        return answer(self)


class _TracedAttribute(TracedValue, fx.proxy.Attribute):
    """An attribute that is read, or a method that is about to be called."""


def unpack(value: Any, count: int) -> tuple[Any, ...]:
    """Return the items of ``a, b = value``, or raise as that does."""
    items = tuple(value)
    if len(items) > count:
        raise ValueError(f"too many values to unpack (expected {count})")
    if len(items) < count:
        raise ValueError(f"not enough values to unpack (expected {count}, got {len(items)})")
    return items


def _inplace(function: Any) -> Any:
    def record(self: TracedValue, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return record


for _name in "add sub mul matmul truediv floordiv mod pow and or xor lshift rshift".split():
    # fx.Proxy lacks them: x += y would become x = x + y, which others who hold x do not see.
    setattr(TracedValue, f"__i{_name}__", _inplace(getattr(operator, f"i{_name}")))


def by_library(frame: FrameType) -> bool:
    """Say whether code of torch or pyfastnn runs in a frame, not the user's."""
    name = frame.f_globals.get("__name__", "")
    return name.split(".")[0] in ("torch", "pyfastnn", "inspect")
