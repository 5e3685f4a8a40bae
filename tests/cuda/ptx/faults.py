"""What can be wrong with a kernel: one exception, with the kind of fault, where, and who."""

from collections.abc import Iterable
from enum import StrEnum


class FaultKind(StrEnum):
    """Kinds of faults; the README says what each one means."""

    OUT_OF_BOUNDS = "out of bounds"
    MISALIGNED = "misaligned"
    RACE = "race"
    UNINITIALISED = "uninitialised"
    IN_FLIGHT = "in flight"
    COLLECTIVE = "collective"
    BARRIER = "barrier"
    READ_ONLY = "read only"
    ENDLESS = "endless"
    TRAP = "trap"
    UNSUPPORTED = "unsupported"


class Fault(Exception):
    """A defect of the kernel that runs, or an instruction that the interpreter does not know.

    Attributes:
        kind: what is wrong.
        detail: the sentence without the place.
        threads: the threads that took part, as the machine numbers them.
        line: line of the PTX text, 0 where unknown.
        instruction: text of the instruction.
        source: place in the CUDA source, where the PTX was compiled with ``-lineinfo``.
    """

    def __init__(self, kind: FaultKind, detail: str, threads: Iterable[int] = ()) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.threads = tuple(int(thread) for thread in threads)
        self.line = 0
        self.instruction = ""
        self.source = ""

    def locate(self, line: int, instruction: str, source: str) -> None:
        """Say where it happened; the first place that is named stays."""
        if not self.instruction:
            self.line, self.instruction, self.source = line, instruction, source

    def __str__(self) -> str:
        place = f" at PTX line {self.line}: {self.instruction}" if self.instruction else ""
        source = f" [{self.source}]" if self.source else ""
        return f"{self.kind}: {self.detail}{place}{source}"


def unsupported(detail: str) -> Fault:
    """A fault of the interpreter: better than a wrong number."""
    return Fault(FaultKind.UNSUPPORTED, detail)
