"""Where everything lies: parameters, variables, shared and local memory, logs of accesses."""

from typing import Final

import numpy as np

from .access_log import AccessLog
from .memory import GlobalMemory, Region
from .ops.memory import space_of
from .ordering import Ordering
from .paged_log import PagedLog
from .program import Immediate, Instruction, Kernel, Vector
from .spaces import Spaces
from .values import size_of

_ALIGN: Final = 128
_WHOLE: Final = 1 << 24  # pieces, the most that have a whole log


def parameter_places(kernel: Kernel) -> tuple[dict[str, int], int]:
    """First byte of each parameter among all, and the bytes of all."""
    places, size = {}, 0
    for parameter in kernel.parameters:
        size = -(-size // parameter.align) * parameter.align
        places[parameter.name] = size
        size += parameter.size
    return places, size


def layout(kernel: Kernel, memory: GlobalMemory) -> tuple[dict[str, int], int, int]:
    """Addresses of all names, and the sizes of static shared and of local memory."""
    symbols, _ = parameter_places(kernel)
    sizes = {"shared": 0, "local": 0}
    used = {
        operand_name for instruction in kernel.instructions for operand_name in _names(instruction)
    }
    dynamic = [v for v in kernel.variables.values() if v.space == "shared" and not v.size]
    for variable in kernel.variables.values():
        if variable.name not in used or variable in dynamic:
            continue
        if variable.space in sizes:
            start = -(-sizes[variable.space] // variable.align) * variable.align
            symbols[variable.name] = start
            sizes[variable.space] = start + variable.size
        elif variable.data is not None:
            contents = np.frombuffer(variable.data, np.uint8).copy()
            read_only = variable.space == "const"
            symbols[variable.name] = memory.add(contents, variable.name, read_only=read_only)
    if any(variable.name in used for variable in dynamic):
        align = max(variable.align for variable in dynamic)
        sizes["shared"] = -(-sizes["shared"] // align) * align
    symbols.update({variable.name: sizes["shared"] for variable in dynamic})
    return symbols, sizes["shared"], sizes["local"]


def _names(instruction: Instruction) -> list[str]:
    """Every name that an instruction mentions."""
    found = []
    for operand in instruction.operands:
        parts = operand.elements if isinstance(operand, Vector) else (operand,)
        for part in parts:
            name = getattr(getattr(part, "base", part), "name", None)
            if name is not None:
                found.append(str(name))
    return found


def owned(name: str, size: int, owners: int) -> Region:
    """Memory of which every block or thread has its own, filled with the bits of NaN."""
    stride = -(-max(size, 1) // _ALIGN) * _ALIGN
    return Region(name, np.full(owners * stride, 0xFF, np.uint8), size, stride)


def attach_logs(kernel: Kernel, spaces: Spaces, ordering: Ordering) -> None:
    """Give every memory that threads share a log of its accesses."""
    shared = spaces.shared
    shared.piece = _smallest_access(kernel, "shared")
    shared.log = AccessLog(len(shared.data) // shared.piece, ordering)
    piece = _smallest_access(kernel, "global")
    for region in spaces.memory.regions:
        region.piece = piece
        pieces = -(-region.size // piece)
        log = PagedLog if pieces > _WHOLE else AccessLog
        # What nobody may write has no races.
        region.log = None if region.read_only else log(pieces, ordering)


def _smallest_access(kernel: Kernel, space: str) -> int:
    """Bytes of the smallest access to a memory; generic ones may go to any."""
    widths = [16]
    for instruction in kernel.instructions:
        if instruction.opcode in {"ld", "st", "ldu", "atom", "red"}:
            if space_of(instruction) in {space, ""}:
                elements = int(instruction.first_of("v2", "v4")[1:] or 1)
                widths.append(size_of(instruction.type) * elements)
        elif instruction.opcode == "cp" and len(instruction.operands) > 2:
            size = instruction.operands[2]
            widths.append(int(size.value) if isinstance(size, Immediate) else 16)
            if space == "global" and len(instruction.operands) > 3:
                widths.append(4)  # a source size that is not known here; none below 4 is in use
    return min(widths)
