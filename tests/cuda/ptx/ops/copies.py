"""``cp.async``: see :mod:`ptx.async_copies` for what is checked."""

import numpy as np

from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Immediate, Instruction, Operand, Register
from ..values import Array
from .memory import count, load_bytes
from .registry import operation


@operation(
    "cp",
    family="cp.async",
    modifiers="async ca cg shared shared::cta global L2::64B L2::128B L2::256B "
    "commit_group wait_group wait_all",
)
def copy(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Start a copy, close a group, or wait."""
    if not instruction.has("async"):
        raise unsupported("cp other than cp.async")
    if instruction.has("commit_group"):
        machine.copies.commit(lanes.threads)
    elif instruction.has("wait_all"):
        machine.copies.wait_all(lanes.threads)
    elif instruction.has("wait_group"):
        newest = instruction.operands[0]
        assert isinstance(newest, Immediate)
        machine.copies.wait(lanes.threads, int(newest.value))
    else:
        _start(machine, instruction, lanes)


def _start(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    target, _, size = instruction.operands[:3]
    assert isinstance(size, Immediate)
    width = int(size.value)
    data = _fetch(machine, instruction, lanes, width)
    addresses = machine.address(target, lanes)
    for part in machine.spaces.parts("shared", addresses, width, lanes.threads):
        count(machine, part, width, load=False, store=True)
        machine.copies.issue(part, data[part.rows])


def _is_predicate(machine: Machine, operand: Operand) -> bool:
    """Whether the last operand says "ignore the source", and is no size."""
    name = operand.name if isinstance(operand, Register) else ""
    return machine.kernel.registers.get(name) == "pred"


def _fetch(machine: Machine, instruction: Instruction, lanes: Lanes, width: int) -> Array:
    """Bytes from global memory; those beyond the source size, or of ignored lanes, are zero."""
    source, rest = instruction.operands[1], instruction.operands[3:]
    addresses = machine.address(source, lanes)
    wanted = np.full(len(lanes), width, np.int64)
    if rest and _is_predicate(machine, rest[0]):
        wanted[machine.read(rest[0], "pred", lanes)] = 0
    elif rest:
        wanted = machine.read(rest[0], "u32", lanes).astype(np.int64)
    if (wanted > width).any():
        raise unsupported("a source size above the size of the copy")
    data = np.zeros((len(lanes), width), np.uint8)
    for size in np.unique(wanted[wanted > 0]):
        chosen = wanted == size
        some = lanes.where(chosen)
        assert some is not None
        if size in {4, 8, 16}:
            data[chosen, :size] = load_bytes(machine, "global", addresses[chosen], int(size), some)
        else:
            for byte in range(int(size)):
                at = addresses[chosen] + np.uint64(byte)
                data[chosen, byte] = load_bytes(machine, "global", at, 1, some)[:, 0]
    return data
