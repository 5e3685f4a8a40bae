"""A PTX module as data: operands, instructions, kernels. Nothing here runs."""

from dataclasses import dataclass, field

from .values import DTYPES


@dataclass(frozen=True, slots=True)
class Register:
    """A register, or a predicate that may be read negated (``!%p1``)."""

    name: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A register that the hardware fills: ``%tid.x``, ``%laneid``."""

    name: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number in the text; floats are kept as Python floats."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a variable, a parameter, a label or a function, with an offset in bytes."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """``[base+offset]``."""

    base: "Register | Symbol | Immediate"
    offset: int


@dataclass(frozen=True, slots=True)
class Vector:
    """``{%r1, %r2}``."""

    elements: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """``%r1|%p1``: two results of one instruction."""

    first: "Operand"
    second: "Operand"


Operand = Register | Special | Immediate | Symbol | Address | Vector | Pair


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        line: line of the PTX text, from 1.
        text: the instruction as written.
        guard: predicate that chooses the lanes, or None.
        opcode: the part before the first dot: ``ld``.
        modifiers: the parts after it that are no types: ``("global", "nc", "v4")``.
        types: the types in order: ``("f32",)``.
        operands: as written, the destination first.
        source: place in the CUDA source, or "".
    """

    line: int
    text: str
    guard: Register | None
    opcode: str
    modifiers: tuple[str, ...]
    types: tuple[str, ...]
    operands: tuple[Operand, ...]
    source: str = ""

    def has(self, modifier: str) -> bool:
        """Whether the instruction carries the modifier."""
        return modifier in self.modifiers

    @property
    def type(self) -> str:
        """The last type, which is the type of the arithmetic; ``b32`` where none is written."""
        return self.types[-1] if self.types else "b32"

    def first_of(self, *modifiers: str) -> str:
        """The modifier among these that the instruction carries, or ""."""
        return next((name for name in modifiers if name in self.modifiers), "")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in some memory: its size in bytes, 0 for ``extern`` arrays without one."""

    name: str
    space: str
    size: int
    align: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a kernel: a scalar of a type, or ``size`` bytes passed by value."""

    name: str
    type: str
    size: int
    align: int
    is_struct: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A function that was linked to a kernel.

    Attributes:
        entry: index of its first instruction.
        end: index behind its last one.
        results: names of the variables that hold what it returns.
        parameters: names of the variables that hold its arguments.
    """

    entry: int
    end: int
    results: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(slots=True)
class Kernel:
    """One ``.entry``, ready to run, with the functions that it calls.

    Attributes:
        name: the mangled name.
        parameters: in order.
        registers: name to type, for every register of the text.
        instructions: of the kernel, in the order of the text.
        labels: label to index of the instruction that follows it.
        variables: shared and local variables of the kernel and all variables of the module.
        branch_targets: tables of ``brx.idx``.
        functions: by name.
    """

    name: str
    parameters: list[Parameter] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    branch_targets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)


def is_type(part: str) -> bool:
    """Whether a dotted part of an opcode names a type."""
    return part in DTYPES
