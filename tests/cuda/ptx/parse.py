"""PTX text to kernels, each with the functions that it calls."""

import re
from dataclasses import replace
from pathlib import PurePath

from . import declarations
from .body import Body
from .program import Function, Kernel, Parameter, Symbol

_HEADER = re.compile(
    r"\.(entry|func)\s+(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)([{;])"
)


def parse(text: str) -> dict[str, Kernel]:
    """All kernels of a PTX text, by mangled name.

    Raises:
        Fault: a declaration or an operand that is not understood.
    """
    text = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    files = {
        int(number): PurePath(path).name
        for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)
    }
    kernels: dict[str, Kernel] = {}
    functions: dict[str, tuple[Body, list[Parameter], list[Parameter]]] = {}
    outside, position = [], 0
    for header in _HEADER.finditer(text):
        if header.start() < position:
            continue
        kind, results, name, parameters, _, opening = header.groups()
        outside.append(text[position : header.start()])
        position = header.end()
        if opening == ";":
            continue
        takes = declarations.parameters(parameters or "")
        gives = declarations.parameters(results or "")
        if kind == "entry":
            body = Body(text, position, files)
            body.kernel.name, body.kernel.parameters = name, takes
            kernels[name] = body.kernel
        else:
            body = Body(text, position, files, name, [*takes, *gives])
            functions[name] = body, takes, gives
        position = body.end
    module = declarations.module_variables("".join(outside))
    for kernel in kernels.values():
        kernel.variables = {**module, **kernel.variables}
        _link(kernel, functions)
    return kernels


def _link(
    kernel: Kernel, functions: dict[str, tuple[Body, list[Parameter], list[Parameter]]]
) -> None:
    """Append the functions that the kernel calls, and those that they call."""
    position = 0
    while position < len(kernel.instructions):
        instruction = kernel.instructions[position]
        position += 1
        if instruction.opcode != "call":
            continue
        for operand in instruction.operands:
            name = operand.name if isinstance(operand, Symbol) else ""
            if name in functions and name not in kernel.functions:
                _append(kernel, name, *functions[name])


def _append(
    kernel: Kernel, name: str, body: Body, takes: list[Parameter], gives: list[Parameter]
) -> None:
    entry = len(kernel.instructions)
    kernel.instructions += [replace(instruction) for instruction in body.kernel.instructions]
    kernel.labels |= {label: entry + at for label, at in body.kernel.labels.items()}
    kernel.registers |= body.kernel.registers
    kernel.variables |= body.kernel.variables
    kernel.branch_targets |= body.kernel.branch_targets
    kernel.functions[name] = Function(
        entry,
        len(kernel.instructions),
        tuple(body.own(parameter.name) for parameter in gives),
        tuple(body.own(parameter.name) for parameter in takes),
    )
