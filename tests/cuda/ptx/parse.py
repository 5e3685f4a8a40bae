"""PTX text to kernels.

Registers of an inner ``{ }`` (inline assembly declares such) get a name of their own, so that two
blocks may use one name for different things. ``.loc`` lines of ``-lineinfo`` give every
instruction its place in the CUDA source.
"""

import re
import struct
from pathlib import PurePath

from . import operands
from .faults import unsupported
from .program import Instruction, Kernel, Parameter, Register, Variable, is_type
from .values import size_of

_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(shared|global|const|local|param)\s+"
    r"(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(\[(\d*)\])?\s*(?:=\s*(.+))?",
    re.DOTALL,
)
_ENTRY = re.compile(r"\.(entry|func)\s+(\([^)]*\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)([{;])")
_POINTER = re.compile(r"\.ptr\b(\s+\.(global|const|shared|local))?(\s+\.align\s+\d+)?")
_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*?(inlined_at[^\n]*)?\n")
_REG = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.DOTALL)


def parse(text: str) -> dict[str, Kernel]:
    """All kernels of a PTX text, by mangled name."""
    text = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    files = {
        int(number): PurePath(path).name
        for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)
    }
    kernels: dict[str, Kernel] = {}
    outside, position = [], 0
    for header in _ENTRY.finditer(text):
        if header.start() < position:
            continue
        outside.append(text[position : header.start()])
        position = header.end()
        if header[6] == ";":
            continue
        body = _Body(text, header.end(), files)
        position = body.end
        if header[1] == "entry":
            body.kernel.name = header[3]
            body.kernel.parameters = _parameters(header[4] or "")
            kernels[header[3]] = body.kernel
    shared = _module_variables("".join(outside))
    for kernel in kernels.values():
        kernel.variables = {**shared, **kernel.variables}
    return kernels


def _parameters(text: str) -> list[Parameter]:
    parameters = []
    for part in operands.split(text):
        variable = _VARIABLE.fullmatch(" ".join(_POINTER.sub("", part).split()))
        if variable is None:
            raise unsupported(f"parameter {part!r}")
        _, align, type_name, name, array, count, _ = variable.groups()
        size = size_of(type_name) * (int(count) if array else 1)
        parameters.append(
            Parameter(name, type_name, size, int(align or size_of(type_name)), bool(array))
        )
    return parameters


def _module_variables(text: str) -> dict[str, Variable]:
    found = {}
    for statement in text.split(";"):
        match = _VARIABLE.search(statement)
        if match:
            variable = _variable(match)
            found[variable.name] = variable
    return found


def _variable(match: re.Match[str]) -> Variable:
    space, align, type_name, name, array, count, initial = match.groups()
    item = size_of(type_name)
    size = item * (int(count) if count else 0 if array else 1)
    data = _initial(initial, type_name, size) if space in {"global", "const"} else None
    return Variable(name, space, size, int(align or item), data)


def _initial(text: str | None, type_name: str, size: int) -> bytes | None:
    """Bytes of ``{1, 2, 3}``, padded with zeros; None where the values are addresses."""
    values = [operands.number(part) for part in operands.split((text or "").strip(" \n\t{}"))]
    if any(value is None for value in values):
        return None
    item = size_of(type_name)
    parts = []
    for value in values:
        if isinstance(value, float):
            parts.append(struct.pack("<f" if item == 4 else "<d", value))
        elif value is not None:
            parts.append((value & ((1 << 8 * item) - 1)).to_bytes(item, "little"))
    return b"".join(parts).ljust(size, b"\0")


class _Scope:
    """Names of the registers that one pair of braces declares."""

    def __init__(self, number: int) -> None:
        self.suffix = f"@{number}" if number else ""
        self.names: dict[str, str] = {}
        self.ranges: dict[str, tuple[int, str]] = {}

    def find(self, name: str) -> str | None:
        """Type of the register, or None."""
        if name in self.names:
            return self.names[name]
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match and match[1] in self.ranges and int(match[2]) < self.ranges[match[1]][0]:
            return self.ranges[match[1]][1]
        return None


class _Body:
    """Reads from behind the opening brace of a function to the brace that closes it."""

    def __init__(self, text: str, start: int, files: dict[int, str]) -> None:
        self.kernel = Kernel("")
        self._text = text
        self._files = files
        self._scopes = [_Scope(0)]
        self._count = 0
        self._outer = self._inner = ""
        self._line, self._counted = 1, 0
        self.end = self._read(start)

    def _line_of(self, position: int) -> int:
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def _read(self, position: int) -> int:
        text = self._text
        while self._scopes:
            position = self._skip_space(position)
            if text[position] == "{":
                self._count += 1
                self._scopes.append(_Scope(self._count))
                position += 1
            elif text[position] == "}":
                self._scopes.pop()
                position += 1
            elif text[position] == ";":
                position += 1
            elif label := _LABEL.match(text, position):
                position = self._label(label)
            elif loc := _LOC.match(text, position):
                self._place(loc)
                position = loc.end()
            else:
                end = text.index(";", position)
                self._statement(" ".join(text[position:end].split()), self._line_of(position))
                position = end + 1
        return position

    def _skip_space(self, position: int) -> int:
        while self._text[position].isspace():
            position += 1
        return position

    def _label(self, label: re.Match[str]) -> int:
        position = self._skip_space(label.end())
        if self._text.startswith(".branchtargets", position):
            end = self._text.index(";", position)
            names = self._text[position + len(".branchtargets") : end]
            self.kernel.branch_targets[label[1]] = tuple(operands.split(names))
            return end + 1
        if label[1] in self.kernel.labels:
            raise unsupported(f"two labels {label[1]}")
        self.kernel.labels[label[1]] = len(self.kernel.instructions)
        return position

    def _place(self, loc: re.Match[str]) -> None:
        place = f"{self._files.get(int(loc[1]), '?')}:{loc[2]}"
        if loc[3]:
            self._inner = place
        elif loc[2] != "0":
            self._outer, self._inner = place, ""

    def _statement(self, text: str, line: int) -> None:
        if text.startswith(".reg"):
            self._declare(text)
        elif text.startswith(".pragma"):
            return
        elif text.startswith("."):
            match = _VARIABLE.fullmatch(text)
            if match is None:
                raise unsupported(f"PTX line {line}: {text}")
            variable = _variable(match)
            self.kernel.variables[variable.name] = variable
        else:
            self.kernel.instructions.append(self._instruction(text, line))

    def _declare(self, text: str) -> None:
        match = _REG.fullmatch(text)
        if match is None:
            raise unsupported(text)
        scope = self._scopes[-1]
        for name in operands.split(match[2]):
            many = re.fullmatch(r"(.+?)<(\d+)>", name)
            if many:
                scope.ranges[many[1]] = (int(many[2]), match[1])
            else:
                scope.names[name] = match[1]

    def _register(self, name: str) -> str | None:
        for scope in reversed(self._scopes):
            type_name = scope.find(name)
            if type_name is not None:
                self.kernel.registers[name + scope.suffix] = type_name
                return name + scope.suffix
        return None

    def _instruction(self, text: str, line: int) -> Instruction:
        guard, rest = None, text
        if text.startswith("@"):
            written, rest = text[1:].split(None, 1)
            name = self._register(written.lstrip("!"))
            guard = Register(name or written, written.startswith("!"))
        opcode, _, arguments = rest.partition(" ")
        first, *parts = opcode.split(".")
        source = f"{self._outer} < {self._inner}" if self._inner else self._outer
        return Instruction(
            line=line,
            text=text,
            guard=guard,
            opcode=first,
            modifiers=tuple(part for part in parts if not is_type(part)),
            types=tuple(part for part in parts if is_type(part)),
            operands=tuple(
                operands.parse(part, self._register) for part in operands.split(arguments)
            ),
            source=source,
        )
