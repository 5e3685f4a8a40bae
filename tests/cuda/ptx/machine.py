"""State of one launch: registers of all threads, memories, clocks, counts.

Threads of all blocks are numbered through, each block padded to whole warps, so that a register is
one numpy array and a warp is a row of 32 in it. Instructions work on :class:`Lanes`.
"""

from dataclasses import dataclass

import numpy as np

from .async_copies import AsyncCopies
from .counts import Counts
from .faults import Fault, FaultKind, unsupported
from .ordering import Ordering
from .program import Address, Immediate, Instruction, Kernel, Operand, Register, Special, Symbol
from .shape import Shape
from .spaces import Spaces
from .values import DTYPES, UNSIGNED, WARP, Array, bits_of, constant, size_of


@dataclass(slots=True)
class Lanes:
    """The threads that execute an instruction now.

    Attributes:
        threads: their numbers, ascending.
        index: what selects them in a register; a slice where they are neighbours, as it is faster.
    """

    threads: Array
    index: slice | Array

    @classmethod
    def of(cls, threads: Array) -> "Lanes":
        """Lanes of ascending thread numbers."""
        first, last = int(threads[0]), int(threads[-1])
        if last - first + 1 == len(threads):
            return cls(threads, slice(first, last + 1))
        return cls(threads, threads)

    def __len__(self) -> int:
        return len(self.threads)

    @property
    def warps(self) -> Array:
        """Warp of every lane."""
        return self.threads // WARP

    @property
    def lane_ids(self) -> Array:
        """Place of every lane in its warp."""
        return self.threads % WARP

    def where(self, condition: Array) -> "Lanes | None":
        """The lanes for which the condition holds, or None."""
        if condition.all():
            return self
        chosen = self.threads[condition]
        return Lanes.of(chosen) if len(chosen) else None


class Machine:
    """Everything that instructions read and change."""

    def __init__(
        self,
        kernel: Kernel,
        shape: Shape,
        spaces: Spaces,
        ordering: Ordering,
        symbols: dict[str, int],
        counts: Counts,
        fault_on_uninitialised: bool,
    ) -> None:
        self.kernel = kernel
        self.shape = shape
        self.spaces = spaces
        self.ordering = ordering
        self.counts = counts
        self.fault_on_uninitialised = fault_on_uninitialised
        self.copies = AsyncCopies(shape.threads, spaces.shared)
        self.symbols = symbols
        self._specials = shape.specials()
        # Poisoned: a register that is read before it is written holds NaN or -1.
        self._registers = {
            name: np.full(shape.threads, 0xFF, np.uint8).astype(bool)
            if type_name == "pred"
            else np.full(shape.threads * size_of(type_name), 0xFF, np.uint8).view(
                UNSIGNED[size_of(type_name)]
            )
            for name, type_name in kernel.registers.items()
        }

    def read(self, operand: Operand, type_name: str, lanes: Lanes) -> Array:
        """Values of an operand, one a lane, as the type's dtype."""
        dtype = DTYPES[type_name]
        if isinstance(operand, Register):
            return self._read_register(operand, type_name, lanes)
        if isinstance(operand, Immediate):
            return constant(operand.value, dtype, len(lanes))
        if isinstance(operand, Special):
            return self._special(operand.name)[lanes.index].astype(dtype)
        if isinstance(operand, Symbol):
            return np.full(len(lanes), self.symbol(operand.name) + operand.offset, dtype)
        raise unsupported(f"operand {operand}")

    def _read_register(self, register: Register, type_name: str, lanes: Lanes) -> Array:
        values = self._registers[register.name][lanes.index]
        dtype = DTYPES[type_name]
        if values.dtype == dtype:
            return ~values if register.negated else values
        if values.dtype == np.bool_:
            raise unsupported(f"predicate {register.name} read as {type_name}")
        if values.dtype.itemsize != dtype.itemsize:
            values = values.astype(UNSIGNED[dtype.itemsize])
        return np.asarray(values.view(dtype))

    def write(self, operand: Operand, values: Array, lanes: Lanes) -> None:
        """Set a register; narrower integers are extended by their sign."""
        if not isinstance(operand, Register):
            raise unsupported(f"result {operand}")
        if operand.name == "_":
            return
        register = self._registers[operand.name]
        if register.dtype == np.bool_:
            register[lanes.index] = values
            return
        if values.dtype.itemsize < register.dtype.itemsize and values.dtype.kind == "i":
            values = values.astype(f"i{register.dtype.itemsize}")
        register[lanes.index] = bits_of(np.ascontiguousarray(values))

    def _special(self, name: str) -> Array:
        if name not in self._specials:
            raise unsupported(f"special register {name}")
        return self._specials[name]

    def symbol(self, name: str) -> int:
        """Address of a variable in its own memory."""
        if name not in self.symbols:
            raise unsupported(f"the address of {name}")
        return self.symbols[name]

    def address(self, operand: Operand, lanes: Lanes) -> Array:
        """Addresses as unsigned 64-bit integers; 32-bit registers hold shared addresses."""
        if not isinstance(operand, Address):
            raise unsupported(f"address {operand}")
        base = operand.base
        if isinstance(base, Register):
            size = self._registers[base.name].dtype.itemsize
            values = self.read(base, f"u{8 * size}", lanes)
            offset = values.dtype.type(operand.offset & ((1 << 8 * size) - 1))
            return np.asarray(values + offset).astype(np.uint64)
        if isinstance(base, Symbol):
            return np.full(len(lanes), self.symbol(base.name) + operand.offset, np.uint64)
        return constant(int(base.value) + operand.offset, DTYPES["u64"], len(lanes))

    def guard(self, instruction: Instruction, lanes: Lanes) -> Lanes | None:
        """The lanes whose guard holds."""
        if instruction.guard is None:
            return lanes
        return lanes.where(self._read_register(instruction.guard, "pred", lanes))

    def name(self, fault: Fault) -> Fault:
        """Put the names of the threads into a fault."""
        names = [self.shape.name(thread) for thread in fault.threads[:4]]
        if "{0}" in fault.detail:
            fault.detail = fault.detail.format(*names)
        elif names:
            more = f" and {len(fault.threads) - 4} more" if len(fault.threads) > 4 else ""
            fault.detail += f" ({'; '.join(names)}{more})"
        return fault


def trap(detail: str, lanes: Lanes) -> Fault:
    """The kernel stopped itself."""
    return Fault(FaultKind.TRAP, detail, lanes.threads)
