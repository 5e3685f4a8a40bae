"""Moves, packing, address conversions, and instructions that change nothing here."""

import numpy as np

from ..faults import unsupported
from ..machine import Lanes, Machine, trap
from ..program import Instruction, Register, Symbol, Vector
from ..spaces import WINDOWS
from ..values import UNSIGNED, size_of
from .registry import operation


@operation("mov", family="move")
def move(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Copy bits; braces pack registers into a wider one, or unpack it, the lowest first."""
    target, source = instruction.operands
    type_name = instruction.type
    if isinstance(source, Vector):
        size = size_of(type_name) // len(source.elements)
        parts = [machine.read(part, f"u{8 * size}", lanes) for part in source.elements]
        packed = np.ascontiguousarray(np.stack(parts, axis=1))
        machine.write(target, packed.view(UNSIGNED[size_of(type_name)]).ravel(), lanes)
    elif isinstance(target, Vector):
        size = size_of(type_name) // len(target.elements)
        whole = np.ascontiguousarray(machine.read(source, f"u{8 * size_of(type_name)}", lanes))
        parts = [*whole.view(UNSIGNED[size]).reshape(len(lanes), -1).T]
        for element, part in zip(target.elements, parts, strict=True):
            machine.write(element, np.ascontiguousarray(part), lanes)
    else:
        machine.write(target, machine.read(source, type_name, lanes).copy(), lanes)


@operation("cvta", family="integer", modifiers="to shared shared::cta local global const param")
def convert_address(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Between the addresses of one memory and generic ones."""
    space = _space(instruction)
    shift = np.array(WINDOWS[space]).astype(np.uint64)
    source = instruction.operands[1]
    values = machine.read(source, "u64", lanes)
    if instruction.has("to"):
        values = values - shift
    elif not (isinstance(source, Symbol) and space in {"global", "const"}):
        values = values + shift
    machine.write(instruction.operands[0], values, lanes)


@operation("isspacep", family="predicate", modifiers="shared shared::cta local global const param")
def is_space(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Whether a generic address lies in a memory."""
    space = _space(instruction)
    address = machine.read(instruction.operands[1], "u64", lanes)
    window = np.uint64(WINDOWS[space])
    if space == "global":
        inside = address >= np.uint64(1 << 43)
    else:
        inside = (address >= window) & (address < window + np.uint64(1 << 32))
    machine.write(instruction.operands[0], inside, lanes)


def _space(instruction: Instruction) -> str:
    space = instruction.first_of("shared", "shared::cta", "local", "global", "const", "param")
    if not space:
        raise unsupported("address conversion without a state space")
    return space.removesuffix("::cta")


@operation(
    "membar fence",
    family="fence",
    modifiers="gl cta sys sc acq_rel acquire release gpu proxy alias async",
)
def fence(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Memory is consistent here at any time; a fence alone orders no two threads."""


@operation("prefetch prefetchu", family="prefetch", modifiers="global L1 L2 L2::evict_last")
def prefetch(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Nothing to do."""


@operation("nanosleep", family="control")
def sleep(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Nothing to do."""


@operation("trap brkpt", family="control")
def stop(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``__trap()``, ``assert``."""
    raise trap("the kernel stopped itself", lanes)


@operation("activemask", family="collective")
def active_mask(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Lanes of the warp that execute this now."""
    masks = np.zeros(machine.shape.warps, np.uint32)
    np.bitwise_or.at(masks, lanes.warps, np.uint32(1) << lanes.lane_ids.astype(np.uint32))
    target = instruction.operands[0]
    assert isinstance(target, Register)
    machine.write(target, masks[lanes.warps], lanes)
