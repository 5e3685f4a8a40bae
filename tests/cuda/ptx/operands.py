"""Text of an operand to data."""

import re
import struct
from collections.abc import Callable

from .faults import unsupported
from .program import Address, Immediate, Operand, Pair, Register, Special, Symbol, Vector

SPECIAL = re.compile(
    r"%(?:n?tid|n?ctaid)\.[xyz]|%(?:laneid|warpid|nwarpid|smid|lanemask_(?:eq|lt|le|gt|ge)|gridid)"
    r"|%(?:clock|clock64|clock_hi|globaltimer|total_smem_size|dynamic_smem_size)|WARP_SZ"
)
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)U?")
_FLOAT = re.compile(r"0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})")
_DECIMAL = re.compile(r"[+-]?\d+\.\d*(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[\w$%.@]+")


def split(text: str) -> list[str]:
    """Parts between the commas that lie outside of braces, brackets and parentheses."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter in "{[(":
            depth += 1
        elif letter in "}])":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def integer(text: str) -> int:
    """``-4``, ``0x1F``, ``7U``; a leading zero means octal, as in C."""
    digits = text.rstrip("U")
    if re.fullmatch(r"[+-]?0\d+", digits):
        return int(digits, 8)
    return int(digits, 0)


def number(text: str) -> int | float | None:
    """The value of an immediate, or None where the text is no number."""
    bits = _FLOAT.fullmatch(text)
    if bits and bits[1]:
        return float(struct.unpack(">f", bytes.fromhex(bits[1]))[0])
    if bits:
        return float(struct.unpack(">d", bytes.fromhex(bits[2]))[0])
    if _NUMBER.fullmatch(text):
        return integer(text)
    return float(text) if _DECIMAL.fullmatch(text) else None


def parse(text: str, register: Callable[[str], str | None]) -> Operand:
    """One operand.

    Args:
        text: as written.
        register: gives the unique name of a register that is declared under this name, else None.
    """
    if text.startswith("{"):
        return Vector(tuple(parse(part, register) for part in split(text[1:-1])))
    if text.startswith("["):
        return _address(text[1:-1].strip(), register)
    if text.startswith("("):
        return Vector(tuple(parse(part, register) for part in split(text[1:-1])))
    if "|" in text:
        first, second = text.split("|")
        return Pair(parse(first.strip(), register), parse(second.strip(), register))
    if text == "_":
        return Register("_")
    negated = text.startswith("!")
    name = register(text.lstrip("!"))
    if name is not None:
        return Register(name, negated)
    if SPECIAL.fullmatch(text):
        return Special(text)
    value = number(text)
    if value is not None:
        return Immediate(value)
    base, _, offset = (part.strip() for part in text.partition("+"))
    if not _NAME.fullmatch(base):
        raise unsupported(f"operand {text!r}")
    return Symbol(base, integer(offset) if offset else 0)


def _address(text: str, register: Callable[[str], str | None]) -> Address:
    match = re.fullmatch(r"([\w$%.@]+)\s*(?:([+-])\s*([+-]?\w+))?", text)
    if match is None:
        raise unsupported(f"address [{text}]")
    base = parse(match[1], register)
    offset = integer(match[3]) if match[3] else 0
    if not isinstance(base, Register | Symbol | Immediate):
        raise unsupported(f"address [{text}]")
    return Address(base, -offset if match[2] == "-" else offset)
