"""What the bytecode of a function may do so that a trace of it is right for every call.

A list of what is allowed, not of what is not: an instruction that is not listed is refused.
"""

from __future__ import annotations

import dis
import functools
import types
from typing import NamedTuple

from pyfastnn.fusion._reads import Refusal

# Values move, are computed, compared, called; control flow. What a traced value does in each of
# these is its own matter (_proxies.py).
_ALLOWED = set(
    """
    BINARY_OP BINARY_SLICE BINARY_SUBSCR BUILD_CONST_KEY_MAP BUILD_LIST BUILD_MAP BUILD_SET
    BUILD_SLICE BUILD_STRING BUILD_TUPLE CACHE CALL CALL_FUNCTION_EX CALL_INTRINSIC_1 COMPARE_OP
    CONTAINS_OP COPY COPY_FREE_VARS DELETE_FAST DICT_MERGE DICT_UPDATE EXTENDED_ARG FORMAT_VALUE
    FOR_ITER GET_ITER IS_OP JUMP_BACKWARD JUMP_FORWARD JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP
    KW_NAMES LIST_APPEND LIST_EXTEND LIST_TO_TUPLE LOAD_ASSERTION_ERROR LOAD_ATTR LOAD_CLOSURE
    LOAD_CONST LOAD_DEREF LOAD_FAST LOAD_GLOBAL LOAD_METHOD MAKE_CELL MAKE_FUNCTION MAP_ADD NOP
    POP_JUMP_BACKWARD_IF_FALSE POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE
    POP_JUMP_BACKWARD_IF_TRUE POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_NONE
    POP_JUMP_FORWARD_IF_NOT_NONE POP_JUMP_FORWARD_IF_TRUE POP_TOP PRECALL PUSH_NULL RAISE_VARARGS
    RESUME RETURN_GENERATOR RETURN_VALUE SET_ADD SET_UPDATE STORE_DEREF STORE_FAST STORE_SUBSCR SWAP
    UNARY_INVERT UNARY_NEGATIVE UNARY_NOT UNARY_POSITIVE UNPACK_SEQUENCE YIELD_VALUE
    """.split()
)
_BECAUSE = {
    "PUSH_EXC_INFO": "it catches exceptions or has a with block",
    "BEFORE_WITH": "it catches exceptions or has a with block",
    "IMPORT_NAME": "it imports a module",
}
_SILENT = ("CACHE", "PUSH_NULL", "COPY_FREE_VARS", "EXTENDED_ARG", "NOP", "RESUME")
_DUNDERS = {"__class__", "__name__", "__init__", "__doc__"}


class Step(NamedTuple):
    """An instruction that loads a value or asks about one; `next` comes after it."""

    opname: str
    name: object
    next: str


class Code(NamedTuple):
    """What counts in the code of a function."""

    steps: list[Step]
    stored: set[str]  # local names that are assigned
    nested: set[str]  # variables of its own inner functions


@functools.lru_cache(maxsize=4096)
def read_code(code: types.CodeType) -> Code:
    """Check a function.

    Raises:
        Refusal: if it does something that a trace cannot hold.
    """
    if code.co_flags & (0x80 | 0x100 | 0x200):  # coroutines and their generators
        raise Refusal("it is a coroutine")
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _SILENT]
    steps = []
    for index, i in enumerate(instructions):
        if i.opname in ("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL") or (
            i.opname == "STORE_DEREF" and i.argval not in code.co_cellvars
        ):
            raise Refusal(f"it assigns {i.argval}")
        if i.opname in _BECAUSE or i.opname not in _ALLOWED:
            raise Refusal(_BECAUSE.get(i.opname, f"its bytecode has {i.opname}"))
        if i.opname in ("LOAD_ATTR", "LOAD_METHOD") and i.argval.startswith("__"):
            if i.argval.endswith("__") and i.argval not in _DUNDERS:
                raise Refusal(f"it reads {i.argval}")
        after = instructions[index + 1].opname if index + 1 < len(instructions) else ""
        steps.append(Step(i.opname, i.argval, after))
    stored = {str(i.argval) for i in instructions if i.opname in ("STORE_FAST", "DELETE_FAST")}
    return Code(steps, stored, set(code.co_cellvars))
