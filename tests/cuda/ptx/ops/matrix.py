"""Tensor cores: ``ldmatrix`` and ``mma.sync``.

Products and sums are computed in float64 and rounded to float32 once. Real tensor cores keep a few
bits more than float32 and cut the rest, in an order that is not documented: a result here is at
least as accurate as there, so bounds of errors must not be derived from it.
"""

from typing import Final

import numpy as np

from .. import floats
from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction, Operand
from ..spaces import Part, note
from ..values import WARP, Array
from .memory import check_written, count, elements, space_of
from .registry import operation

_LANE: Final = np.arange(WARP)
_GROUP: Final = _LANE // 4
_PLACE: Final = _LANE % 4


@operation(
    "ldmatrix",
    family="ldmatrix",
    modifiers="m8n8 x1 x2 x4 trans shared shared::cta",
    collective=True,
)
def load_matrices(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """8x8 matrices of 16-bit elements: lane ``8 i + r`` gives the address of row ``r`` of matrix i.

    A lane gets two neighbours of row ``lane / 4``, with ``.trans`` of column ``lane / 4``.
    """
    registers = elements(instruction.operands[0])
    addresses = machine.address(instruction.operands[1], lanes).reshape(-1, WARP)
    givers = lanes.threads.reshape(-1, WARP)
    used = 8 * len(registers)
    space = space_of(instruction)
    for part in machine.spaces.parts(
        space, addresses[:, :used].ravel(), 16, givers[:, :used].ravel()
    ):
        if part.region is not machine.spaces.shared or len(part.threads) != givers[:, :used].size:
            raise unsupported("ldmatrix of memory that is not shared")
        machine.copies.check(part, 16)
        check_written(machine, part, 16)
        _note_receivers(machine, part.positions, len(registers), lanes, instruction.has("trans"))
        count(machine, part, 16, load=True, store=False)
        rows = part.region.load(part.positions, 16).view(np.uint16)
        matrices = rows.reshape(-1, len(registers), 8, 8)
    for number, register in enumerate(registers):
        matrix = matrices[:, number]
        if instruction.has("trans"):
            matrix = matrix.transpose(0, 2, 1)
        pairs = np.ascontiguousarray(matrix).reshape(-1, 64).view(np.uint32)
        machine.write(register, pairs.ravel(), lanes)


def _note_receivers(
    machine: Machine, positions: Array, matrices: int, lanes: Lanes, trans: bool
) -> None:
    """The lanes that get the bytes are those that read them, whoever gave the address."""
    shared = machine.spaces.shared
    rows = positions.reshape(-1, matrices, 8)
    threads = lanes.threads.reshape(-1, 1, WARP)
    if trans:
        places = [rows[:, :, 2 * _PLACE + half] + 2 * _GROUP for half in range(2)]
    else:
        places = [rows[:, :, _GROUP] + 4 * _PLACE]
    for at in places:
        who = np.broadcast_to(threads, at.shape)
        note(Part(shared, slice(None), who.ravel(), at.ravel()), 2 if trans else 4, "read")


def _fragment(registers: list[Array], rows: Array, columns: Array, shape: tuple[int, int]) -> Array:
    """Matrices ``[warps, *shape]`` from registers ``[warps, lane, elements]``."""
    warps = registers[0].shape[0]
    matrix = np.empty((warps, *shape), registers[0].dtype)
    stacked = np.concatenate(registers, axis=2)  # [warps, lane, element]
    matrix[:, rows, columns] = stacked
    return matrix


def places16(depth: int, *, is_b: bool) -> tuple[Array, Array]:
    """Row and column ``[lane, element]`` of A ``[16, depth]`` or B ``[depth, 8]``, 16-bit types."""
    rows, columns = [], []
    for k in range(0, depth, 8):
        for m in (0,) if is_b else (0, 8):
            for half in range(2):
                inner = k + 2 * _PLACE + half
                rows.append(inner if is_b else m + _GROUP)
                columns.append(_GROUP if is_b else inner)
    return np.stack(rows, axis=1), np.stack(columns, axis=1)


def places32(depth: int, *, is_b: bool) -> tuple[Array, Array]:
    """The same for tf32, one element a register."""
    rows, columns = [], []
    for k in range(0, depth, 4):
        for m in (0,) if is_b else (0, 8):
            rows.append(k + _PLACE if is_b else m + _GROUP)
            columns.append(_GROUP if is_b else k + _PLACE)
    return np.stack(rows, axis=1), np.stack(columns, axis=1)


def places_of_result() -> tuple[Array, Array]:
    """Row and column ``[lane, element]`` of C and D ``[16, 8]``."""
    rows = np.stack([_GROUP, _GROUP, _GROUP + 8, _GROUP + 8], axis=1)
    columns = np.stack([2 * _PLACE, 2 * _PLACE + 1, 2 * _PLACE, 2 * _PLACE + 1], axis=1)
    return rows, columns


def _inputs(machine: Machine, operand: Operand, type_name: str, lanes: Lanes) -> list[Array]:
    """Values ``[warps, lane, 1 or 2]`` of the registers, as float64."""
    values = []
    for register in elements(operand):
        bits = np.ascontiguousarray(machine.read(register, "u32", lanes))
        if type_name == "tf32":
            wide = floats.tf32_of(bits)
        elif type_name == "bf16":
            wide = floats.bf16_to_float(bits.view(np.uint16))
        else:
            wide = bits.view(np.float16).astype(np.float32)
        values.append(wide.astype(np.float64).reshape(-1, WARP, len(wide) // len(bits)))
    return values


_SHAPES: Final = {
    ("m16n8k16", "bf16"): 16,
    ("m16n8k16", "f16"): 16,
    ("m16n8k8", "bf16"): 8,
    ("m16n8k8", "f16"): 8,
    ("m16n8k8", "tf32"): 8,
    ("m16n8k4", "tf32"): 4,
}


@operation("mma", family="mma", modifiers="m16n8k16 m16n8k8 m16n8k4 row col", collective=True)
def multiply(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``D = A B + C`` of a warp, A by rows, B by columns, C and D in float32."""
    result_type, a_type, b_type, c_type = instruction.types
    shape = instruction.first_of("m16n8k16", "m16n8k8", "m16n8k4")
    depth = _SHAPES.get((shape, a_type))
    if depth is None or a_type != b_type or (result_type, c_type) != ("f32", "f32"):
        raise unsupported(f"mma {shape} of {instruction.types}")
    target, a_operand, b_operand, c_operand = instruction.operands
    places = places32 if a_type == "tf32" else places16
    a = _fragment(
        _inputs(machine, a_operand, a_type, lanes), *places(depth, is_b=False), (16, depth)
    )
    b = _fragment(_inputs(machine, b_operand, a_type, lanes), *places(depth, is_b=True), (depth, 8))
    c_values = [
        machine.read(register, "f32", lanes).astype(np.float64).reshape(-1, WARP, 1)
        for register in elements(c_operand)
    ]
    rows, columns = places_of_result()
    d = (np.matmul(a, b) + _fragment(c_values, rows, columns, (16, 8))).astype(np.float32)
    for number, register in enumerate(elements(target)):
        values = d[:, rows[:, number], columns[:, number]]
        machine.write(register, np.ascontiguousarray(values).ravel(), lanes)
