"""The interface: compile elsewhere, parse once, run a kernel on numpy arrays, get a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .counts import Counts
from .layout import attach_logs, layout, owned, parameter_places
from .machine import Machine
from .memory import GlobalMemory, Region
from .ordering import Ordering
from .parse import parse
from .program import Kernel
from .report import Report
from .schedule import Scheduler
from .shape import Dim3, Shape
from .spaces import Spaces
from .values import DTYPES, Array

Argument = Array | int | float | bytes


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
    blocks: Sequence[int] | None = None,
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
        blocks: numbers of the blocks that run, x first; all by default. The others do nothing.

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
    shape = Shape(_dim3(grid), _dim3(block), blocks)
    ordering = Ordering(shape.blocks, shape.padded)
    parameters = _parameter_bytes(entry, args, memory)
    symbols, static_bytes, local_bytes = layout(entry, memory)
    shared_size = static_bytes + shared_bytes
    spaces = Spaces(
        memory,
        shared=owned("shared memory", shared_size, shape.blocks),
        local=owned("local memory", local_bytes, shape.threads),
        parameters=Region("the parameters", parameters, len(parameters), read_only=True),
        threads_per_block=shape.padded,
    )
    if checks.races:
        attach_logs(entry, spaces, ordering)
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
    """The bytes of all parameters, each at its place (see :func:`parameter_places`)."""
    if len(args) != len(kernel.parameters):
        raise ValueError(f"{kernel.name} takes {len(kernel.parameters)} arguments, got {len(args)}")
    places, size = parameter_places(kernel)
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
