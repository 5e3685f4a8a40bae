"""Who runs next: control flow, block barriers, and lanes that wait for one another.

Of the threads that can run, those at the lowest instruction go first; branches that part them meet
again by themselves. A collective runs for the lanes whose masks are complete and makes the others
wait; when nobody can run, the lanes that wait are the fault.
"""

from typing import Final

import numpy as np

from . import ops
from .calls import Calls
from .faults import Fault, FaultKind, unsupported
from .machine import Lanes, Machine
from .ops.collectives import mask_operand
from .program import Immediate, Instruction, Symbol
from .values import WARP, Array

RUNS: Final = 0
AT_BARRIER: Final = 1
AT_COLLECTIVE: Final = 2
LEFT: Final = 3

_FULL: Final = np.uint32(0xFFFFFFFF)
_BRANCHES: Final = frozenset({"bra", "brx", "ret", "exit", "call"})
_END: Final = 1 << 60


def is_block_barrier(instruction: Instruction) -> bool:
    """``bar.sync``, ``barrier.sync``, ``bar.red`` and other barriers of the block."""
    return instruction.opcode in {"bar", "barrier"} and not instruction.has("warp")


def family_of(instruction: Instruction) -> str:
    """Family for the counts; ``unknown`` for what would be a fault."""
    if instruction.opcode in _BRANCHES:
        return "control"
    if is_block_barrier(instruction):
        return "barrier"
    try:
        return ops.find(instruction).family
    except Fault:
        return "unknown"


class Scheduler:
    """Runs all threads of a launch to their end."""

    def __init__(self, machine: Machine, max_steps: int, exited_pass_barriers: bool) -> None:
        self._machine = machine
        self._program = machine.kernel.instructions
        self._max_steps = max_steps
        self._exited_pass_barriers = exited_pass_barriers
        self._calls = Calls(machine)
        shape = machine.shape
        self._at = np.zeros(shape.threads, np.int64)
        self._state = np.where(shape.exists, RUNS, LEFT).astype(np.uint8)
        self._mask = np.zeros(shape.threads, np.uint32)  # of lanes that wait at a collective
        self._vote = np.zeros(shape.threads, bool)  # for bar.red

    def run(self) -> None:
        """Run until every thread has left.

        Raises:
            Fault: with the instruction and the names of the threads.
        """
        with np.errstate(all="ignore"):
            while True:
                can_run = self._state == RUNS
                if not can_run.any():
                    if (self._state == LEFT).all():
                        return
                    raise self._machine.name(self._stuck())
                self._advance(np.nonzero(can_run)[0])

    def _advance(self, can_run: Array) -> None:
        """Run the threads at the lowest instruction until they branch, wait or meet others."""
        places = self._at[can_run]
        at = int(places.min())
        here = places == at
        beyond = places[~here]
        limit = int(beyond.min()) if len(beyond) else _END
        lanes = Lanes.of(can_run[here])
        while at < limit:
            if at >= len(self._program):
                raise Fault(FaultKind.TRAP, "runs past the end of the kernel", lanes.threads)
            instruction = self._program[at]
            self._machine.ordering.now += 1
            self._machine.counts.at = at
            try:
                if self._machine.ordering.now > self._max_steps:
                    raise Fault(FaultKind.ENDLESS, f"over {self._max_steps} steps", lanes.threads)
                if not self._step(instruction, at, lanes):
                    return
            except Fault as fault:
                fault.locate(instruction.line, instruction.text, instruction.source)
                raise self._machine.name(fault) from None
            at += 1
        self._at[lanes.index] = at

    def _step(self, instruction: Instruction, at: int, lanes: Lanes) -> bool:
        """Execute one instruction; False where the threads no longer go on together."""
        active = self._machine.guard(instruction, lanes)
        if active is None or instruction.opcode in _BRANCHES:
            self._machine.counts.issue(lanes.threads, 0 if active is None else len(active))
            if active is None:
                return True
            self._at[lanes.index] = at + 1
            self._branch(instruction, at, active)
            return False
        if is_block_barrier(instruction):
            self._at[lanes.index] = at + 1
            self._arrive(instruction, at, active)
            return False
        operation = ops.find(instruction)
        if operation.collective and not self._all_here(instruction, active):
            self._at[lanes.index] = at + 1
            self._meet(instruction, at, active)
            return False
        self._machine.counts.issue(lanes.threads, len(active))
        operation.run(self._machine, instruction, active)
        return True

    # --- branches ---------------------------------------------------------------------------------

    def _branch(self, instruction: Instruction, at: int, lanes: Lanes) -> None:
        labels = self._machine.kernel.labels
        if instruction.opcode == "ret" and (back := self._calls.leave(at, lanes)) is not None:
            self._at[lanes.index] = back
        elif instruction.opcode in {"ret", "exit"}:
            self._state[lanes.index] = LEFT
            for block in np.unique(self._machine.shape.block_of[lanes.threads]):
                self._release(int(block))
        elif instruction.opcode == "bra":
            target = instruction.operands[0]
            assert isinstance(target, Symbol)
            self._at[lanes.index] = labels[target.name]
        elif instruction.opcode == "brx":
            index, table = instruction.operands
            assert isinstance(table, Symbol)
            targets = [labels[name] for name in self._machine.kernel.branch_targets[table.name]]
            self._at[lanes.index] = np.array(targets)[self._machine.read(index, "u32", lanes)]
        else:
            self._at[lanes.index] = self._calls.enter(instruction, at, lanes)

    # --- barriers of the block --------------------------------------------------------------------

    def _arrive(self, instruction: Instruction, at: int, lanes: Lanes) -> None:
        machine, operands = self._machine, instruction.operands
        reduces = instruction.has("red")
        if instruction.has("arrive") or not (instruction.has("sync") or reduces):
            raise unsupported("barrier that does not wait")
        number, *counts = operands[1:-1] if reduces else operands
        if not isinstance(number, Immediate) or number.value != 0:
            raise unsupported("barrier other than 0")
        if counts and (machine.read(counts[0], "u32", lanes) != machine.shape.block_threads).any():
            raise unsupported("barrier of a part of the block")
        if reduces:
            self._vote[lanes.index] = machine.read(operands[-1], "pred", lanes)
        machine.counts.issue(lanes.threads, len(lanes))
        self._at[lanes.index] = at
        self._state[lanes.index] = AT_BARRIER
        for block in np.unique(machine.shape.block_of[lanes.threads]):
            self._release(int(block))

    def _release(self, block: int) -> None:
        """Let a block go on if all its threads have arrived at one barrier."""
        size = self._machine.shape.padded
        threads = np.arange(block * size, (block + 1) * size)
        threads = threads[self._machine.shape.exists[threads]]
        states = self._state[threads]
        if self._exited_pass_barriers:
            threads = threads[states != LEFT]
            states = self._state[threads]
        if not len(threads) or not (states == AT_BARRIER).all():
            return
        places = self._at[threads]
        if (places != places[0]).any():
            return  # nobody of the block can go on: reported as stuck
        instruction = self._program[int(places[0])]
        self._machine.ordering.block_barrier(block)
        if instruction.has("red"):
            self._reduce(instruction, Lanes.of(threads))
        self._state[threads] = RUNS
        self._at[threads] += 1

    def _reduce(self, instruction: Instruction, lanes: Lanes) -> None:
        votes = self._vote[lanes.threads]
        result = {
            "popc": np.array(votes.sum(), np.uint32),
            "and": votes.all(),
            "or": votes.any(),
        }[instruction.first_of("popc", "and", "or")]
        self._machine.write(instruction.operands[0], np.full(len(lanes), result), lanes)

    # --- collectives of a warp --------------------------------------------------------------------

    def _masks(self, instruction: Instruction, lanes: Lanes) -> Array:
        operand = mask_operand(instruction)
        if operand is None:
            return np.full(len(lanes), _FULL)
        masks = self._machine.read(operand, "u32", lanes)
        own = (masks >> lanes.lane_ids.astype(np.uint32)) & np.uint32(1)
        if (own == 0).any():
            raise Fault(
                FaultKind.COLLECTIVE,
                f"a lane is not in its own mask {int(masks[own == 0][0]):#x}",
                lanes.threads[own == 0],
            )
        return masks

    def _all_here(self, instruction: Instruction, lanes: Lanes) -> bool:
        """Whether whole warps with whole masks are here, the common case."""
        whole = len(lanes) % WARP == 0 and bool(
            (lanes.threads[::WARP] % WARP == 0).all()
            and (lanes.threads[WARP - 1 :: WARP] - lanes.threads[::WARP] == WARP - 1).all()
        )
        return whole and bool((self._masks(instruction, lanes) == _FULL).all())

    def _meet(self, instruction: Instruction, at: int, arriving: Lanes) -> None:
        """Run the collective for the lanes that are complete, let the others wait."""
        machine = self._machine
        self._at[arriving.index] = at
        self._state[arriving.index] = AT_COLLECTIVE
        self._mask[arriving.index] = self._masks(instruction, arriving)
        waiting = (self._state == AT_COLLECTIVE) & self._same_collective(at)
        table = np.where(waiting, self._mask, 0).reshape(-1, WARP)
        warps = np.unique(arriving.warps)
        masks = table[warps]
        shifts = np.arange(WARP, dtype=np.uint32)
        wants = (masks[:, :, None] >> shifts) & np.uint32(1) != 0  # [warp, lane, other lane]
        agrees = masks[:, :, None] == masks[:, None, :]
        complete = (masks != 0) & (agrees | ~wants).all(axis=2)
        ready = (warps[:, None] * WARP + np.arange(WARP))[complete]
        if len(ready):
            lanes = Lanes.of(np.sort(ready))
            machine.counts.issue(lanes.threads, len(lanes))
            ops.find(instruction).run(machine, instruction, lanes)
            self._state[lanes.index] = RUNS
            self._at[lanes.index] += 1

    def _same_collective(self, at: int) -> Array:
        """Threads at the same instruction; lanes may meet at any ``bar.warp.sync``."""
        if self._program[at].opcode != "bar":
            return np.asarray(self._at == at)
        barriers = [place for place, other in enumerate(self._program) if other.opcode == "bar"]
        return np.isin(self._at, barriers)

    # --- nobody can run ---------------------------------------------------------------------------

    def _stuck(self) -> Fault:
        waits = self._state == AT_COLLECTIVE
        if waits.any():
            return self._stuck_collective(int(np.nonzero(waits)[0][0]))
        thread = int(np.nonzero(self._state == AT_BARRIER)[0][0])
        shape = self._machine.shape
        same_block = (shape.block_of == shape.block_of[thread]) & shape.exists
        elsewhere = same_block & ((self._at != self._at[thread]) | (self._state == LEFT))
        other = int(np.nonzero(elsewhere)[0][0])
        detail = f"{{0}} waits at the barrier, {{1}} {self._where(other)}"
        return self._located(FaultKind.BARRIER, detail, thread, other)

    def _stuck_collective(self, thread: int) -> Fault:
        mask = int(self._mask[thread])
        first = thread // WARP * WARP
        here = self._same_collective(int(self._at[thread])) & (self._state == AT_COLLECTIVE)
        missing = [
            first + lane for lane in range(WARP) if mask >> lane & 1 and not here[first + lane]
        ] or [first + lane for lane in range(WARP) if self._mask[first + lane] != mask]
        names = ", ".join(str(lane % WARP) for lane in missing)
        detail = (
            f"{{0}} waits with mask {mask:#x} for lanes {names} of its warp; "
            f"{{1}} {self._where(missing[0])}"
        )
        return self._located(FaultKind.COLLECTIVE, detail, thread, missing[0])

    def _where(self, thread: int) -> str:
        if not self._machine.shape.exists[thread]:
            return "does not exist"
        if self._state[thread] == LEFT:
            return "has left the kernel"
        instruction = self._program[int(self._at[thread])]
        return f"waits at PTX line {instruction.line}: {instruction.text}"

    def _located(self, kind: FaultKind, detail: str, thread: int, other: int) -> Fault:
        fault = Fault(kind, detail, (thread, other))
        instruction = self._program[int(self._at[thread])]
        fault.locate(instruction.line, instruction.text, instruction.source)
        return fault
