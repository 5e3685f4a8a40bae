"""The interface: compile elsewhere, parse once, run a kernel on numpy arrays, get a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .access_log import AccessLog
from .counts import Counts
from .machine import Machine
from .memory import GlobalMemory, Region
from .ops.memory import space_of
from .ordering import Ordering
from .parse import parse
from .program import Instruction, Kernel, Vector
from .report import Report
from .schedule import Scheduler
from .shape import Dim3, Shape
from .spaces import Spaces
from .values import DTYPES, Array, size_of

Argument = Array | int | float | bytes
_ALIGN: Final = 128


@dataclass(frozen=True)
class Checks:
    """What is checked beside bounds, alignment and collectives, which always are.

    Attributes:
        races: data races in shared and global memory.
        uninitialised: reads of shared memory that nobody wrote (needs ``races``).
        exited_pass_barriers: a thread that has left the kernel counts as arrived at every barrier,
            as it does on the hardware; CUDA C++ asks that all threads of the block arrive.
        max_steps: instructions after which a kernel counts as endless.
    """

    races: bool = True
    uninitialised: bool = True
    exited_pass_barriers: bool = False
    max_steps: int = 5_000_000


def find_kernel(kernels: Mapping[str, Kernel], name: str) -> Kernel:
    """The kernel of this mangled name, or the only one whose name contains it.

    Raises:
        KeyError: none or several.
    """
    if name in kernels:
        return kernels[name]
    found = [kernel for mangled, kernel in kernels.items() if name in mangled]
    if len(found) != 1:
        names = [kernel.name for kernel in found] or list(kernels)
        raise KeyError(f"{len(found)} kernels contain {name!r}: {', '.join(names)}")
    return found[0]


def run(
    ptx: str | Mapping[str, Kernel],
    kernel: str,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Argument],
    shared_bytes: int = 0,
    *,
    memory: GlobalMemory | None = None,
    checks: Checks | None = None,
) -> Report:
    """Run a kernel.

    Args:
        ptx: text that nvcc emitted, or what :func:`parse` made of it (saves time in loops).
        kernel: mangled name, or a part of it that no other kernel has.
        grid: blocks, up to three numbers.
        block: threads of a block, up to three numbers.
        args: in the order of the parameters. An array is passed as a pointer and changed in place,
            a number as the scalar that the parameter is, ``bytes`` as a struct by value.
        shared_bytes: dynamic shared memory.
        memory: arrays that pointers in structs refer to, and names for arrays; arrays of ``args``
            that are not in it are added under the name of their position, ``arg 0``.
        checks: see :class:`Checks`.

    Returns:
        The counts.

    Raises:
        Fault: whatever the kernel does wrong, and instructions that are not understood.

    Example:
        >>> y = np.zeros(64, np.float32)
        >>> report = run(ptx, "scale", grid=2, block=32, args=[y, x, 64])
        >>> report.bytes_stored["arg 0"]
        256
    """
    entry = find_kernel(parse(ptx) if isinstance(ptx, str) else ptx, kernel)
    checks = checks or Checks()
    memory = memory or GlobalMemory()
    shape = Shape(_dim3(grid), _dim3(block))
    ordering = Ordering(shape.blocks, shape.padded)
    parameters = _parameter_bytes(entry, args, memory)
    symbols, static_bytes, local_bytes = _layout(entry, memory)
    shared_size = static_bytes + shared_bytes
    spaces = Spaces(
        memory,
        shared=_owned("shared memory", shared_size, shape.blocks),
        local=_owned("local memory", local_bytes, shape.threads),
        parameters=Region("the parameters", parameters, len(parameters), read_only=True),
        threads_per_block=shape.padded,
    )
    if checks.races:
        _attach_logs(entry, spaces, ordering)
    counts = Counts(len(entry.instructions))
    machine = Machine(entry, shape, spaces, ordering, symbols, counts, checks.uninitialised)
    Scheduler(machine, checks.max_steps, checks.exited_pass_barriers).run()
    return Report(entry, counts, shape.warps)


def _dim3(sizes: int | Sequence[int]) -> Dim3:
    given = [sizes] if isinstance(sizes, int) else [int(size) for size in sizes]
    x, y, z = [*given, 1, 1, 1][:3]
    if min(x, y, z) < 1 or len(given) > 3:
        raise ValueError(f"sizes of a launch must be one to three positive numbers, got {sizes}")
    return x, y, z


def _parameter_bytes(kernel: Kernel, args: Sequence[Argument], memory: GlobalMemory) -> Array:
    """The bytes of all parameters, each at its place (see :func:`_parameter_places`)."""
    if len(args) != len(kernel.parameters):
        raise ValueError(f"{kernel.name} takes {len(kernel.parameters)} arguments, got {len(args)}")
    places, size = _parameter_places(kernel)
    data = np.zeros(size, np.uint8)
    for number, (parameter, argument) in enumerate(zip(kernel.parameters, args, strict=True)):
        start = places[parameter.name]
        value = _encoded(number, parameter.type, parameter.size, argument, memory)
        if len(value) != parameter.size:
            raise ValueError(
                f"argument {number} of {kernel.name} has {len(value)} bytes, "
                f"the parameter {parameter.size}"
            )
        data[start : start + len(value)] = np.frombuffer(value, np.uint8)
    return data


def _encoded(
    number: int, type_name: str, size: int, argument: Argument, memory: GlobalMemory
) -> bytes:
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, np.ndarray):
        address = memory.address_of(argument)
        if address is None:
            address = memory.add(argument, f"arg {number}")
        return address.to_bytes(8, "little")
    dtype = DTYPES[type_name]
    if dtype.kind == "f":
        return np.array(argument, dtype).tobytes()
    if not isinstance(argument, int | np.integer):
        raise TypeError(f"argument {number} must be an integer, got {argument!r}")
    if not -(1 << 8 * size - 1) <= argument < 1 << 8 * size:
        raise ValueError(f"argument {number} is {argument}, the parameter has {8 * size} bits")
    return (int(argument) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _parameter_places(kernel: Kernel) -> tuple[dict[str, int], int]:
    places, size = {}, 0
    for parameter in kernel.parameters:
        size = -(-size // parameter.align) * parameter.align
        places[parameter.name] = size
        size += parameter.size
    return places, size


def _layout(kernel: Kernel, memory: GlobalMemory) -> tuple[dict[str, int], int, int]:
    """Addresses of all names, and the sizes of static shared and of local memory."""
    symbols, _ = _parameter_places(kernel)
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


def _owned(name: str, size: int, owners: int) -> Region:
    """Memory of which every block or thread has its own, filled with the bits of NaN."""
    stride = -(-max(size, 1) // _ALIGN) * _ALIGN
    return Region(name, np.full(owners * stride, 0xFF, np.uint8), size, stride)


def _attach_logs(kernel: Kernel, spaces: Spaces, ordering: Ordering) -> None:
    shared = spaces.shared
    shared.piece = _smallest_access(kernel, "shared")
    shared.log = AccessLog(len(shared.data) // shared.piece, ordering)
    piece = _smallest_access(kernel, "global")
    for region in spaces.memory.regions:
        region.piece = piece
        region.log = AccessLog(-(-region.size // piece), ordering)


def _smallest_access(kernel: Kernel, space: str) -> int:
    """Bytes of the smallest access to a memory; generic ones may go to any."""
    smallest = 16
    for instruction in kernel.instructions:
        if instruction.opcode in {"ld", "st", "ldu", "atom", "red"}:
            if space_of(instruction) not in {space, ""}:
                continue
            vector = instruction.first_of("v2", "v4")
            smallest = min(smallest, size_of(instruction.type) * int(vector[1:] or 1))
        elif instruction.opcode == "cp" and instruction.has("async") and instruction.operands:
            # A source size may cut a copy anywhere, down to a byte; only sizes of loads matter.
            sizes = [getattr(operand, "value", 16) for operand in instruction.operands[2:]]
            cut = len(sizes) > 1 and space == "global"
            smallest = min(smallest, 4 if cut else int(min([16, *sizes[:1]])))
    return smallest
