"""Integer arithmetic: wraps around, shifts saturate, as on the hardware."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..faults import unsupported
from ..machine import Lanes, Machine
from ..program import Instruction
from ..values import DTYPES, UNSIGNED, Array, bits_of
from .registry import operation


def _sources(machine: Machine, instruction: Instruction, lanes: Lanes) -> list[Array]:
    return [machine.read(o, instruction.type, lanes) for o in instruction.operands[1:]]


def _binary(opcode: str, compute: Callable[[Array, Array], Any], kinds: str = "int") -> None:
    def run(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
        a, b = _sources(machine, instruction, lanes)
        machine.write(instruction.operands[0], np.asarray(compute(a, b)), lanes)

    operation(opcode, kinds, family="integer")(run)


def _truncated_division(a: Array, b: Array) -> Array:
    """Towards zero; division by zero gives all ones, as on the hardware."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient = a // safe
    if a.dtype.kind == "i":
        quotient = quotient + ((quotient * safe != a) & ((a < 0) != (safe < 0)))
    ones = np.array(-1).astype(a.dtype)
    return np.where(b == 0, ones, quotient).astype(a.dtype)


def _remainder(a: Array, b: Array) -> Array:
    return np.where(b == 0, a, a - _truncated_division(a, b) * b).astype(a.dtype)


_binary("min", np.minimum)
_binary("max", np.maximum)
_binary("div", _truncated_division)
_binary("rem", _remainder)
_binary("and", np.bitwise_and, "int pred")
_binary("or", np.bitwise_or, "int pred")
_binary("xor", np.bitwise_xor, "int pred")


@operation("add sub", "int", family="integer", modifiers="sat")
def add(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``a + b``, ``a - b``; ``.sat`` (only s32) clamps."""
    a, b = _sources(machine, instruction, lanes)
    if instruction.has("sat"):
        a, b = a.astype(np.int64), b.astype(np.int64)
    result = a + b if instruction.opcode == "add" else a - b
    if instruction.has("sat"):
        result = np.clip(result, -(2**31), 2**31 - 1).astype(np.int32)
    machine.write(instruction.operands[0], result, lanes)


def high_half(a: Array, b: Array) -> Array:
    """Upper half of the product of two integers of one type."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
        product = a.astype(wide) * b.astype(wide)
        return np.asarray(product >> wide.type(bits)).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    middle = (x & low) * (y & low) >> shift
    first = (x >> shift) * (y & low) + middle
    second = (x & low) * (y >> shift) + (first & low)
    high = (x >> shift) * (y >> shift) + (first >> shift) + (second >> shift)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return np.asarray(high).view(a.dtype)


@operation("mul mad", "int", family="integer", modifiers="lo hi wide")
def multiply(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``a * b`` and ``a * b + c``; ``.wide`` gives, and adds, twice the width."""
    first, second = instruction.operands[1:3]
    a = machine.read(first, instruction.type, lanes)
    b = machine.read(second, instruction.type, lanes)
    result_type = instruction.type
    if instruction.has("wide"):
        result_type = f"{result_type[0]}{16 * a.dtype.itemsize}"
        result = a.astype(DTYPES[result_type]) * b.astype(DTYPES[result_type])
    else:
        result = high_half(a, b) if instruction.has("hi") else a * b
    if instruction.opcode == "mad":
        result = result + machine.read(instruction.operands[3], result_type, lanes)
    machine.write(instruction.operands[0], result, lanes)


@operation("mul24 mad24", "int", family="integer", modifiers="lo")
def multiply24(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Products of the low 24 bits, low 32 bits of the result."""
    a, b, *rest = _sources(machine, instruction, lanes)
    eight = a.dtype.type(8)
    result = ((a << eight) >> eight) * ((b << eight) >> eight)
    machine.write(instruction.operands[0], result + rest[0] if rest else result, lanes)


@operation("abs neg not cnot", "int pred", family="integer")
def unary(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """One operand."""
    (a,) = _sources(machine, instruction, lanes)
    if instruction.opcode == "abs":
        result = np.abs(a)
    elif instruction.opcode == "neg":
        result = np.zeros_like(a) - a
    elif instruction.opcode == "not":
        result = ~a
    else:
        result = (a == 0).astype(a.dtype)
    machine.write(instruction.operands[0], result, lanes)


@operation("sad", "int", family="integer")
def sum_of_differences(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``c + |a - b|``."""
    a, b, c = _sources(machine, instruction, lanes)
    machine.write(instruction.operands[0], c + np.where(a < b, b - a, a - b), lanes)


@operation("shl shr", "int", family="integer")
def shift(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Amounts of the width or more shift everything out; ``shr.s`` copies the sign."""
    a = machine.read(instruction.operands[1], instruction.type, lanes)
    amount = machine.read(instruction.operands[2], "u32", lanes)
    bits = 8 * a.dtype.itemsize
    inside = np.minimum(amount, bits - 1).astype(a.dtype)
    if instruction.opcode == "shl":
        result = np.where(amount >= bits, a.dtype.type(0), a << inside)
    elif a.dtype.kind == "i":
        result = a >> inside
    else:
        result = np.where(amount >= bits, a.dtype.type(0), a >> inside)
    machine.write(instruction.operands[0], result, lanes)


@operation("shf", "int", family="integer", modifiers="l r clamp wrap")
def funnel_shift(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Shift of ``b:a``; left gives the upper word, right the lower one."""
    a, b, amount = (machine.read(o, "u32", lanes).astype("u8") for o in instruction.operands[1:])
    amount = np.minimum(amount, 32) if instruction.has("clamp") else amount & np.uint64(31)
    both = (b << np.uint64(32)) | a
    if instruction.has("l"):
        # In two steps, so that 32 bits never leave the 64.
        result = (both << amount) >> np.uint64(32)
    else:
        result = both >> amount
    machine.write(instruction.operands[0], result.astype(np.uint32), lanes)


@operation("bfe", "int", family="integer")
def extract(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """A field of bits, extended by zero or by its sign."""
    a = machine.read(instruction.operands[1], instruction.type, lanes)
    start, length = (
        (machine.read(o, "u32", lanes) & np.uint32(255)).astype(np.int64)
        for o in instruction.operands[2:4]
    )
    bits = 8 * a.dtype.itemsize
    # Where the sign is taken from, for fields that reach beyond the word too.
    top = np.minimum(start + length - 1, bits - 1)
    positions = np.arange(bits)
    source = np.where(positions < length[:, None], start[:, None] + positions, top[:, None])
    signed = instruction.type.startswith("s")
    outside = (positions >= length[:, None]) | (source >= bits)
    word = bits_of(a).astype(np.uint64)[:, None]
    inside = np.clip(source, 0, bits - 1).astype(np.uint64)
    sign_at = np.clip(top, 0, bits - 1).astype(np.uint64)[:, None]
    sign = (word >> sign_at) & np.uint64(signed)
    field = np.where(outside, sign, (word >> inside) & np.uint64(1))
    field[length == 0] = 0
    result = (field << positions.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    machine.write(instruction.operands[0], result.astype(UNSIGNED[a.dtype.itemsize]), lanes)


@operation("bfi", "int", family="integer")
def insert(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``b`` with a field of it replaced by the low bits of ``a``."""
    a, b = (machine.read(o, instruction.type, lanes) for o in instruction.operands[1:3])
    start, length = (
        (machine.read(o, "u32", lanes) & np.uint32(255)).astype(np.int64)
        for o in instruction.operands[3:5]
    )
    bits = 8 * a.dtype.itemsize
    positions = np.arange(bits)
    inside = (positions >= start[:, None]) & (positions < (start + length)[:, None])
    mask = (inside.astype(np.uint64) << positions.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    shifted = a.astype(np.uint64) << np.minimum(start, bits - 1).astype(np.uint64)
    result = (b.astype(np.uint64) & ~mask) | (shifted & mask)
    machine.write(instruction.operands[0], result.astype(b.dtype), lanes)


@operation("brev clz popc bfind", "int", family="integer", modifiers="shiftamt")
def scan(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Reverse bits, count leading zeros, count ones, find the highest bit that is not the sign."""
    a = machine.read(instruction.operands[1], instruction.type, lanes)
    bits = 8 * a.dtype.itemsize
    if instruction.opcode == "bfind" and a.dtype.kind == "i":
        a = np.where(a < 0, ~a, a)
    word = bits_of(a)
    each = (word[:, None] >> np.arange(bits).astype(word.dtype)) & word.dtype.type(1)
    highest = np.where(word == 0, -1, bits - 1 - each[:, ::-1].argmax(axis=1))
    if instruction.opcode == "brev":
        weights = np.arange(bits)[::-1].astype(np.uint64)
        result = (each.astype(np.uint64) << weights).sum(axis=1, dtype=np.uint64)
        machine.write(instruction.operands[0], result.astype(word.dtype), lanes)
        return
    if instruction.opcode == "popc":
        result = each.sum(axis=1)
    elif instruction.opcode == "clz":
        result = bits - 1 - highest
    elif instruction.has("shiftamt"):
        result = np.where(highest < 0, -1, bits - 1 - highest)
    else:
        result = highest
    machine.write(instruction.operands[0], result.astype(np.int32), lanes)


@operation("prmt", "int", family="integer")
def permute(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Four bytes out of eight, each optionally replaced by its sign."""
    a, b, selector = (machine.read(o, "u32", lanes) for o in instruction.operands[1:])
    both = (b.astype(np.uint64) << np.uint64(32)) | a
    result = np.zeros(len(lanes), np.uint32)
    for byte in range(4):
        choice = (selector >> np.uint32(4 * byte)) & np.uint32(15)
        place = (choice & np.uint32(7)).astype(np.uint64) * np.uint64(8)
        value = ((both >> place) & np.uint64(255)).astype(np.uint32)
        sign = np.where(value & 128, np.uint32(255), np.uint32(0))
        result |= np.where(choice & 8, sign, value) << np.uint32(8 * byte)
    machine.write(instruction.operands[0], result, lanes)


@operation("lop3", "int", family="integer")
def logic3(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """Any function of three bits, given as a table of eight."""
    a, b, c = (machine.read(o, "u32", lanes) for o in instruction.operands[1:4])
    table = int(machine.read(instruction.operands[4], "u32", lanes)[0])
    result = np.zeros(len(lanes), np.uint32)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    machine.write(instruction.operands[0], result, lanes)


@operation("dp4a", "int", family="integer")
def dot4(machine: Machine, instruction: Instruction, lanes: Lanes) -> None:
    """``c`` plus the dot product of four bytes; both operands of one signedness."""
    if len(set(instruction.types)) != 1:
        raise unsupported("dp4a of mixed signs")
    a, b, c = _sources(machine, instruction, lanes)
    byte = f"{a.dtype.kind}1"
    parts = a.view(byte).reshape(-1, 4).astype(a.dtype) * b.view(byte).reshape(-1, 4)
    machine.write(instruction.operands[0], c + parts.sum(axis=1, dtype=a.dtype), lanes)
