"""Loads, stores and atomic operations."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .. import floats
from ..faults import Fault, FaultKind, unsupported
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


def _half_add(type_name: str) -> Callable[[Array, Array], Any]:
    def add(a: Array, b: Array) -> Array:
        if type_name.startswith("bf16"):
            halves = [floats.bf16_to_float(x.view(np.uint16)) for x in (a, b)]
            return floats.float_to_bf16(halves[0] + halves[1]).view(a.dtype)
        sums = a.view(np.float16).astype(np.float32) + b.view(np.float16)
        return floats.float_to_f16(sums).view(a.dtype)

    return add


_UPDATES: Final[dict[str, Callable[[Array, Array], Any]]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
    "inc": lambda old, top: np.where(old >= top, 0, old + old.dtype.type(1)).astype(old.dtype),
    "dec": lambda old, top: np.where((old == 0) | (old > top), top, old - old.dtype.type(1)).astype(
        old.dtype
    ),
}


@operation(
    "atom red",
    family="atomic",
    modifiers=f"{' '.join(_UPDATES)} cas shared shared::cta global noftz relaxed acquire release "
    "acq_rel gpu cta sys",
)
def atomic(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Read, change, write in one step, lane after lane; ``red`` gives no old value back."""
    returns = instruction.opcode == "atom"
    place, *sources = instruction.operands[returns:]
    type_name = instruction.type
    values = [machine.read(source, type_name, lanes) for source in sources]
    addresses = machine.address(place, lanes)
    space, width = space_of(instruction), size_of(type_name)
    load_bytes(machine, space, addresses, width, lanes, "atomic")  # checks and counts
    old = np.empty(len(lanes), DTYPES[type_name])
    for part in machine.spaces.parts(space, addresses, width, lanes.threads):
        rows = np.arange(len(lanes))[part.rows]
        for position, row in zip(part.positions, rows, strict=True):
            before = part.region.load(np.array([position]), width).view(DTYPES[type_name])[0]
            old[row] = before[0]
            after = _updated(instruction, before, [value[row : row + 1] for value in values])
            part.region.store(np.array([position]), after.view(np.uint8).reshape(1, width))
    if returns:
        machine.write(instruction.operands[0], old, lanes)


def _updated(instruction: Instruction, old: Array, values: list[Array]) -> Array:
    if instruction.has("cas"):
        return np.where(old == values[0], values[1], old)
    name = instruction.first_of(*_UPDATES)
    if not name:
        raise unsupported("atomic operation")
    if old.dtype.kind != "f" or name != "add":
        if "16" in instruction.type and instruction.type[0] in "fb" and name == "add":
            return np.asarray(_half_add(instruction.type)(old, values[0]))
    elif instruction.type == "f16":
        return np.asarray(_half_add(instruction.type)(old, values[0]))
    return np.asarray(_UPDATES[name](old, values[0]))
