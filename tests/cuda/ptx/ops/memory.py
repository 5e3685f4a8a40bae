"""Loads and stores."""

from typing import Final

import numpy as np

from ..faults import Fault, FaultKind
from ..machine import Lanes, Machine
from ..program import Instruction, Operand, Vector
from ..spaces import Part, note
from ..values import DTYPES, Array, bits_of, size_of
from .registry import operation

_SPACES: Final = "shared shared::cta global local param const param::entry param::func"
_HINTS: Final = (
    "nc ca cg cs lu cv wb wt weak v2 v4 L1::no_allocate L1::evict_first L1::evict_last "
    "L1::evict_normal L1::evict_unchanged L2::64B L2::128B L2::256B"
)


def space_of(instruction: Instruction) -> str:
    """The state space of a memory instruction, "" for generic addresses."""
    space = instruction.first_of(*_SPACES.split()).split("::")[0]
    return "global" if space == "const" else space


def elements(operand: Operand) -> tuple[Operand, ...]:
    """The registers of a vector, or the one operand."""
    return operand.elements if isinstance(operand, Vector) else (operand,)


def count(machine: Machine, part: Part, width: int, *, load: bool, store: bool) -> None:
    """Write the access into the counts."""
    spaces, counts = machine.spaces, machine.counts
    if part.region is spaces.shared:
        counts.shared(part.threads, part.positions, width)
    elif part.region is not spaces.local and part.region is not spaces.parameters:
        counts.global_access(
            part.region.name, part.threads, part.positions, width, load=load, store=store
        )


def check_written(machine: Machine, part: Part, width: int) -> None:
    """Fault if bytes of shared memory are read that nobody wrote."""
    region = part.region
    if region.log is None or region is not machine.spaces.shared:
        return
    if not machine.fault_on_uninitialised:
        return
    empty = region.log.never_written(region.pieces(part.positions, width)).any(axis=1)
    if empty.any():
        offset = int(part.positions[empty][0]) % region.stride
        raise Fault(
            FaultKind.UNINITIALISED,
            f"reads {width} bytes at byte {offset} of shared memory that nobody has written",
            part.threads[empty],
        )


def load_bytes(
    machine: Machine, space: str, addresses: Array, width: int, lanes: Lanes, verb: str = "read"
) -> Array:
    """Bytes ``[lanes, width]``, with every check and count."""
    result = np.empty((len(lanes), width), np.uint8)
    for part in machine.spaces.parts(space, addresses, width, lanes.threads):
        machine.copies.check(part, width)
        check_written(machine, part, width)
        note(part, width, verb)
        count(machine, part, width, load=True, store=verb == "atomic")
        result[part.rows] = part.region.load(part.positions, width)
    return result


def store_bytes(machine: Machine, space: str, addresses: Array, data: Array, lanes: Lanes) -> None:
    """Store ``data[lane]``, with every check and count."""
    width = data.shape[1]
    for part in machine.spaces.parts(space, addresses, width, lanes.threads):
        machine.copies.check(part, width)
        note(part, width, "write")
        count(machine, part, width, load=False, store=True)
        part.region.store(part.positions, data[part.rows])


@operation("ld ldu", family="load", modifiers=f"{_SPACES} {_HINTS}")
def load(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """One to four values from neighbouring places."""
    target, source = instruction.operands[:2]
    registers = elements(target)
    width = size_of(instruction.type) * len(registers)
    addresses = machine.address(source, lanes)
    verb = "constant" if instruction.has("nc") else "read"
    data = load_bytes(machine, space_of(instruction), addresses, width, lanes, verb)
    values = data.view(DTYPES[instruction.type])
    for column, register in enumerate(registers):
        machine.write(register, np.ascontiguousarray(values[:, column]), lanes)


@operation("st", family="store", modifiers=f"{_SPACES} {_HINTS}")
def store(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """One to four values to neighbouring places."""
    target, source = instruction.operands[:2]
    columns = [bits_of(machine.read(o, instruction.type, lanes)) for o in elements(source)]
    data = np.ascontiguousarray(np.stack(columns, axis=1)).view(np.uint8)
    addresses = machine.address(target, lanes)
    store_bytes(machine, space_of(instruction), addresses, data, lanes)
