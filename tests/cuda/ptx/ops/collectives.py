"""Exchange between the lanes of a warp. The scheduler lets the lanes of a mask meet first."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..faults import Fault, FaultKind, unsupported
from ..machine import Lanes, Machine
from ..program import Instruction, Operand, Pair
from ..values import DTYPES, WARP, Array
from .registry import operation


def mask_operand(instruction: Instruction) -> Operand | None:
    """The operand that names the lanes; None where it is the whole warp."""
    if instruction.opcode in {"ldmatrix", "mma"}:
        return None
    return instruction.operands[-1]


def _by_warp(values: Array, lanes: Lanes, fill: int, machine: Machine) -> Array:
    """Values ``[warps, 32]`` with ``fill`` at the lanes that do not take part."""
    table = np.full(machine.shape.threads, fill, values.dtype)
    table[lanes.index] = values
    return table.reshape(-1, WARP)


def _masks(machine: Machine, instruction: Instruction, lanes: Lanes) -> Array:
    operand = mask_operand(instruction)
    assert operand is not None
    return machine.read(operand, "u32", lanes)


@operation("shfl", family="collective", modifiers="up down bfly idx", collective=True)
def shuffle(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Take the value of another lane of the segment; out of it, keep one's own."""
    target, source, b_operand, c_operand, _ = instruction.operands
    values = machine.read(source, "u32", lanes)
    b = (machine.read(b_operand, "u32", lanes) & np.uint32(31)).astype(np.int64)
    c = machine.read(c_operand, "u32", lanes).astype(np.int64)
    lane, segment, clamp = lanes.lane_ids, (c >> 8) & 31, c & 31
    lowest = lane & segment
    limit = lowest | (clamp & ~segment)
    mode = instruction.first_of("up", "down", "bfly", "idx")
    other = {
        "up": lane - b,
        "down": lane + b,
        "bfly": lane ^ b,
        "idx": lowest | (b & ~segment),
    }[mode]
    inside = other >= limit if mode == "up" else other <= limit
    other = np.where(inside, other, lane)
    masks = _masks(machine, instruction, lanes)
    absent = (masks >> other.astype(np.uint32)) & np.uint32(1) == 0
    if absent.any():
        raise Fault(
            FaultKind.COLLECTIVE,
            f"reads lane {int(other[absent][0])}, which mask {int(masks[absent][0]):#x} leaves out",
            lanes.threads[absent],
        )
    table = _by_warp(values, lanes, 0, machine)
    if isinstance(target, Pair):
        machine.write(target.second, inside, lanes)
        target = target.first
    machine.write(target, table[lanes.warps, other], lanes)


def _groups(machine: Machine, masks: Array, lanes: Lanes) -> Array:
    """``[lanes, 32]``: which lanes of the warp take part with this one."""
    return np.asarray((masks[:, None] >> np.arange(WARP, dtype=np.uint32)) & np.uint32(1) != 0)


@operation("vote", family="collective", modifiers="all any uni ballot", collective=True)
def vote(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Of a predicate: does it hold for all, for any, is it the same, for whom does it hold."""
    choice = machine.read(instruction.operands[1], "pred", lanes)
    group = _groups(machine, _masks(machine, instruction, lanes), lanes)
    yes = group & _by_warp(choice, lanes, 0, machine)[lanes.warps]
    bits = (yes.astype(np.uint32) << np.arange(WARP, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    count, size = yes.sum(axis=1), group.sum(axis=1)
    result = {
        "all": count == size,
        "any": count > 0,
        "uni": (count == size) | (count == 0),
        "ballot": bits,
    }[instruction.first_of("all", "any", "uni", "ballot")]
    machine.write(instruction.operands[0], result, lanes)


@operation("match", family="collective", modifiers="any all", collective=True)
def match(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Lanes that hold the same value; ``all``: the mask if everybody does, else 0."""
    target, source, _ = instruction.operands
    values = machine.read(source, f"u{8 * DTYPES[instruction.type].itemsize}", lanes)
    group = _groups(machine, _masks(machine, instruction, lanes), lanes)
    same = group & (_by_warp(values, lanes, 0, machine)[lanes.warps] == values[:, None])
    if instruction.has("all"):
        agree = (same == group).all(axis=1)
        same = group & agree[:, None]
        if isinstance(target, Pair):
            machine.write(target.second, agree, lanes)
            target = target.first
    shifts = np.arange(WARP, dtype=np.uint32)
    bits = (same.astype(np.uint32) << shifts).sum(axis=1, dtype=np.uint32)
    machine.write(target, bits, lanes)


_REDUCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add.reduce,
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


@operation("redux", "int", family="collective", modifiers=" ".join(_REDUCTIONS), collective=True)
def reduce(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """A reduction over the lanes of the mask, the result in each."""
    values = machine.read(instruction.operands[1], instruction.type, lanes)
    name = instruction.first_of(*_REDUCTIONS)
    masks = _masks(machine, instruction, lanes)
    result = np.empty_like(values)
    keys = np.stack([lanes.warps, masks.astype(np.int64)], axis=1)
    for key in np.unique(keys, axis=0):
        members = (keys == key).all(axis=1)
        result[members] = _REDUCTIONS[name](values[members])
    machine.write(instruction.operands[0], result, lanes)


@operation("bar", family="collective", modifiers="warp", collective=True)
def warp_barrier(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``__syncwarp()``: orders what the lanes of the mask did."""
    if not instruction.has("warp"):
        raise unsupported("barrier")  # block barriers are the scheduler's
    machine.ordering.warp_barrier(lanes.threads, _masks(machine, instruction, lanes))
