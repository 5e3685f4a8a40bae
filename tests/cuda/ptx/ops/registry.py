"""The table of instructions: what each opcode does, and which of its modifiers are understood."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction
from ..values import kind_of

Handler = Callable[[Machine, Instruction, Lanes], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry.

    Attributes:
        run: executes the instruction for the lanes.
        family: for the counts.
        modifiers: those that ``run`` understands; any other is a fault.
        collective: whether lanes of a warp have to meet before it runs.
    """

    run: Handler
    family: str
    modifiers: frozenset[str]
    collective: bool = False


TABLE: Final[dict[tuple[str, str], Operation]] = {}

IGNORED: Final = frozenset({"uni", "sync", "aligned"})


def operation(
    opcodes: str, kinds: str = "", *, family: str, modifiers: str = "", collective: bool = False
) -> Callable[[Handler], Handler]:
    """Register a handler.

    Args:
        opcodes: separated by spaces.
        kinds: kinds of types (``int float half pred``) it is for; all where empty.
        family: for the counts.
        modifiers: separated by spaces.
        collective: see :class:`Operation`.
    """

    def register(handler: Handler) -> Handler:
        entry = Operation(handler, family, frozenset(modifiers.split()), collective)
        for opcode in opcodes.split():
            for kind in kinds.split() or [""]:
                TABLE[opcode, kind] = entry
        return handler

    return register


def find(instruction: Instruction) -> Operation:
    """The entry of an instruction.

    Raises:
        Fault: where the opcode or one of its modifiers is unknown.
    """
    kind = kind_of(instruction.type)
    entry = TABLE.get((instruction.opcode, kind)) or TABLE.get((instruction.opcode, ""))
    if entry is None:
        raise unsupported(f"instruction {instruction.opcode} on {instruction.type}")
    unknown = set(instruction.modifiers) - entry.modifiers - IGNORED
    if unknown:
        raise unsupported(f"modifier .{' .'.join(sorted(unknown))} of {instruction.opcode}")
    return entry
