"""The body of a kernel or function: instructions, registers, labels, variables.

Registers of an inner ``{ }`` (inline assembly declares such) get a name of their own, so that two
blocks may use one name for different things; so do all names of a function. Parameters of calls are
variables in local memory. ``.loc`` lines of ``-lineinfo`` give every instruction its place in the
CUDA source.
"""

import re

from . import operands
from .declarations import VARIABLE, variable
from .faults import unsupported
from .program import (
    Address,
    Instruction,
    Kernel,
    Operand,
    Parameter,
    Register,
    Symbol,
    Variable,
    Vector,
    is_type,
)

_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*?(inlined_at[^\n]*)?\n")
_REG = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.DOTALL)


class _Scope:
    """Names of the registers that one pair of braces declares."""

    def __init__(self, number: int) -> None:
        self.suffix = f"@{number}" if number else ""
        self.names: dict[str, str] = {}
        self.ranges: dict[str, tuple[int, str]] = {}
        self.variables: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """Type of the register, or None."""
        if name in self.names:
            return self.names[name]
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match and match[1] in self.ranges and int(match[2]) < self.ranges[match[1]][0]:
            return self.ranges[match[1]][1]
        return None


class Body:
    """Reads from behind the opening brace of a function to the brace that closes it.

    Args:
        text: PTX without comments.
        start: position behind the brace.
        files: names of source files by number.
        function: name of a function, empty for a kernel.
        parameters: what a function takes and gives.

    Attributes:
        kernel: what was read.
        end: position behind the brace that closes the body.
    """

    def __init__(
        self,
        text: str,
        start: int,
        files: dict[int, str],
        function: str = "",
        parameters: list[Parameter] | None = None,
    ) -> None:
        self.kernel = Kernel(function)
        self._prefix = f"{function}::" if function else ""
        self._text = text
        self._files = files
        self._scopes = [_Scope(0)]
        self._count = 0
        self._outer = self._inner = ""
        for parameter in parameters or []:
            self._call_variable(parameter.name, parameter.size, parameter.align)
        self._line, self._counted = 1, 0
        self.end = self._read(start)

    def own(self, name: str) -> str:
        """The name under which a label or a parameter of the function is known to the kernel."""
        return self._prefix + name

    def _call_variable(self, name: str, size: int, align: int) -> None:
        """A parameter of a function or of a call to one."""
        unique = self.own(name) + self._scopes[-1].suffix
        self._scopes[-1].variables[name] = unique
        self.kernel.variables[unique] = Variable(unique, "local", size, align)

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
            targets = tuple(self.own(part) for part in operands.split(names))
            self.kernel.branch_targets[self.own(label[1])] = targets
            return end + 1
        if self.own(label[1]) in self.kernel.labels:
            raise unsupported(f"two labels {label[1]}")
        self.kernel.labels[self.own(label[1])] = len(self.kernel.instructions)
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
            match = VARIABLE.fullmatch(text)
            if match is None:
                raise unsupported(f"PTX line {line}: {text}")
            found = variable(match)
            if found.space == "param":
                self._call_variable(found.name, found.size, found.align)
            else:
                self.kernel.variables[found.name] = found
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
                unique = self._prefix + name + scope.suffix
                self.kernel.registers[unique] = type_name
                return unique
        return None

    def _symbol(self, name: str, *, is_target: bool) -> str:
        for scope in reversed(self._scopes):
            if name in scope.variables:
                return scope.variables[name]
        return self.own(name) if is_target else name

    def _renamed(self, operand: Operand, *, is_target: bool) -> Operand:
        """The operand with the unique names of labels and of parameters of calls."""
        if isinstance(operand, Symbol):
            return Symbol(self._symbol(operand.name, is_target=is_target), operand.offset)
        if isinstance(operand, Address) and isinstance(operand.base, Symbol):
            base = self._symbol(operand.base.name, is_target=False)
            return Address(Symbol(base), operand.offset)
        if isinstance(operand, Vector):
            return Vector(tuple(self._renamed(e, is_target=False) for e in operand.elements))
        return operand

    def _instruction(self, text: str, line: int) -> Instruction:
        guard, rest = None, text
        if text.startswith("@"):
            written, rest = text[1:].split(None, 1)
            name = self._register(written.lstrip("!"))
            guard = Register(name or written, written.startswith("!"))
        opcode, _, arguments = rest.partition(" ")
        first, *parts = opcode.split(".")
        found = tuple(
            self._renamed(operands.parse(part, self._register), is_target=first in {"bra", "brx"})
            for part in operands.split(arguments)
        )
        if any(self._is_call_variable(operand) for operand in found):
            parts = ["local" if part.startswith("param") else part for part in parts]
        source = f"{self._outer} < {self._inner}" if self._inner else self._outer
        return Instruction(
            line=line,
            text=text,
            guard=guard,
            opcode=first,
            modifiers=tuple(part for part in parts if not is_type(part)),
            types=tuple(part for part in parts if is_type(part)),
            operands=found,
            source=source,
        )

    def _is_call_variable(self, operand: Operand) -> bool:
        base = operand.base if isinstance(operand, Address) else None
        return isinstance(base, Symbol) and any(
            base.name in scope.variables.values() for scope in self._scopes
        )
