"""Calls of functions: arguments are copied, and every thread remembers where it came from."""

import numpy as np

from .faults import unsupported
from .machine import Lanes, Machine, trap
from .program import Function, Instruction, Operand, Symbol, Vector
from .values import Array


class Calls:
    """The functions of a kernel and who is in them; a function may not call itself."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._functions = machine.kernel.functions
        self._back = {
            name: np.full(machine.shape.threads, -1, np.int64) for name in self._functions
        }

    def enter(self, instruction: Instruction, at: int, lanes: Lanes) -> int:
        """Copy the arguments and remember the way back; gives the first instruction."""
        if "__assertfail" in instruction.text:
            raise trap("an assertion failed", lanes)
        _, name, arguments = self._signature(instruction)
        function, back = self._functions[name], self._back[name]
        if (back[lanes.index] >= 0).any():
            raise unsupported(f"recursion of {name}")
        back[lanes.index] = at + 1
        for source, target in zip(arguments, function.parameters, strict=True):
            self._copy(source, target, lanes)
        return function.entry

    def leave(self, at: int, lanes: Lanes) -> Array | None:
        """Where ``ret`` at the instruction leads each lane; None where it ends the kernel."""
        found = [name for name, function in self._functions.items() if _holds(function, at)]
        if not found:
            return None
        back = self._back[found[0]][lanes.index].copy()
        self._back[found[0]][lanes.index] = -1
        for place in np.unique(back):
            call = self._machine.kernel.instructions[int(place) - 1]
            results, _, _ = self._signature(call)
            some = lanes.where(back == place)
            assert some is not None
            sources = self._functions[found[0]].results
            for source, target in zip(sources, results, strict=True):
                self._copy(source, target, some)
        return np.asarray(back)

    def _signature(self, instruction: Instruction) -> tuple[list[str], str, list[str]]:
        """Names of the results, of the function, and of the arguments of a call."""
        for place, operand in enumerate(instruction.operands):
            if isinstance(operand, Symbol):
                if operand.name not in self._functions:
                    raise unsupported(f"call of {operand.name}, which is not in this text")
                before, after = instruction.operands[:place], instruction.operands[place + 1 :]
                return _names(before), operand.name, _names(after)
        raise unsupported("call of a function that is not named")

    def _copy(self, source: str, target: str, lanes: Lanes) -> None:
        variables, local = self._machine.kernel.variables, self._machine.spaces.local
        size = variables[target].size
        table = local.data.reshape(-1, local.stride)
        to, at = self._machine.symbol(target), self._machine.symbol(source)
        table[lanes.threads, to : to + size] = table[lanes.threads, at : at + size]


def _holds(function: Function, at: int) -> bool:
    return function.entry <= at < function.end


def _names(operands: tuple[Operand, ...]) -> list[str]:
    parts = [part for o in operands if isinstance(o, Vector) for part in o.elements]
    return [part.name for part in parts if isinstance(part, Symbol)]
