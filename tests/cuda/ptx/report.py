"""What a launch did, for the whole kernel or for a part of its lines."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from .counts import Counts
from .program import Kernel, Symbol
from .schedule import family_of
from .values import Array


class Loop(NamedTuple):
    """The lines between a label and the last branch back to it."""

    first_line: int
    last_line: int


class Report:
    """Counts of a launch; all figures are sums over all warps of the grid."""

    def __init__(
        self, kernel: Kernel, counts: Counts, warps: int, chosen: Array | None = None
    ) -> None:
        self.kernel = kernel
        self.warps = warps
        self._counts = counts
        size = len(kernel.instructions)
        self._chosen = np.ones(size, bool) if chosen is None else chosen

    @property
    def instructions(self) -> int:
        """Warp instructions that were issued."""
        return int(self._counts.issues[self._chosen].sum())

    @property
    def families(self) -> dict[str, int]:
        """Warp instructions by family, the most first."""
        found: dict[str, int] = defaultdict(int)
        for index in np.nonzero(self._chosen & (self._counts.issues > 0))[0]:
            family = family_of(self.kernel.instructions[index])
            found[family] += int(self._counts.issues[index])
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def mma_share(self) -> float:
        """Part of the issued warp instructions that are ``mma``."""
        return self.families.get("mma", 0) / max(1, self.instructions)

    @property
    def active_lanes(self) -> float:
        """Mean number of lanes that executed an issued instruction, at most 32."""
        return float(self._counts.lanes[self._chosen].sum() / max(1, self.instructions))

    @property
    def bytes_loaded(self) -> dict[str, int]:
        """Bytes that lanes loaded from global memory, by array."""
        return self._bytes(self._counts.loaded)

    @property
    def bytes_stored(self) -> dict[str, int]:
        """Bytes that lanes stored to global memory, by array."""
        return self._bytes(self._counts.stored)

    def _bytes(self, table: dict[str, Array]) -> dict[str, int]:
        sums = {name: int(values[self._chosen].sum()) for name, values in table.items()}
        return {name: value for name, value in sums.items() if value}

    @property
    def sectors(self) -> int:
        """32-byte sectors of global memory that warps touched, each access by itself."""
        return int(self._counts.sectors[self._chosen].sum())

    @property
    def wavefronts(self) -> int:
        """Passes of shared memory."""
        return int(self._counts.wavefronts[self._chosen].sum())

    @property
    def bank_conflicts(self) -> int:
        """Passes of shared memory beyond the fewest that the accesses need."""
        return int(self._counts.conflicts[self._chosen].sum())

    def region(self, first_line: int, last_line: int) -> "Report":
        """The same figures, of the PTX lines from first to last."""
        lines = np.array([instruction.line for instruction in self.kernel.instructions])
        chosen = (lines >= first_line) & (lines <= last_line)
        return Report(self.kernel, self._counts, self.warps, chosen)

    @property
    def loops(self) -> list[Loop]:
        """All loops, the one with the most issued instructions first."""
        ends: dict[int, int] = {}
        for index, instruction in enumerate(self.kernel.instructions):
            target = instruction.operands[0] if instruction.operands else None
            if instruction.opcode == "bra" and isinstance(target, Symbol):
                start = self.kernel.labels[target.name]
                if start <= index:
                    ends[start] = index
        program = self.kernel.instructions
        found = [Loop(program[start].line, program[end].line) for start, end in ends.items()]
        return sorted(found, key=lambda loop: -self.region(*loop).instructions)

    @property
    def steady_loop(self) -> "Report":
        """Of the loop that issues the most (innermost of equals): the main loop of a GEMM."""
        loops = self.loops
        if not loops:
            raise ValueError(f"{self.kernel.name} has no loop")
        return self.region(*loops[0])

    def lines(self) -> str:
        """One line per instruction that was issued: issues, conflicts, sectors, text."""
        rows = ["  issues conflicts  sectors  line  instruction"]
        for index in np.nonzero(self._chosen & (self._counts.issues > 0))[0]:
            instruction = self.kernel.instructions[index]
            rows.append(
                f"{self._counts.issues[index]:8} {self._counts.conflicts[index]:9} "
                f"{self._counts.sectors[index]:8} {instruction.line:5}  {instruction.text}"
            )
        return "\n".join(rows)

    def _short_name(self) -> str:
        name = self.kernel.name
        return name if len(name) <= 60 else f"{name[:40]}...{name[-17:]}"

    def __str__(self) -> str:
        total = max(1, self.instructions)
        families = ", ".join(
            f"{name} {count} ({100 * count / total:.1f} %)" for name, count in self.families.items()
        )
        return "\n".join(
            [
                f"{self._short_name()}: {self.instructions} instructions of {self.warps} warps, "
                f"{self.active_lanes:.1f} lanes active, {100 * self.mma_share:.1f} % mma",
                f"  {families}",
                f"  global memory: loaded {self.bytes_loaded}, stored {self.bytes_stored}, "
                f"{self.sectors} sectors",
                f"  shared memory: {self.wavefronts} wavefronts, "
                f"{self.bank_conflicts} of them bank conflicts",
            ]
        )
