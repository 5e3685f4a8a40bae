"""Text of PTX to kernels."""

import ptx
import pytest
from ptx import Fault, operands
from ptx.program import Address, Immediate, Pair, Register, Special, Symbol, Vector

NAMES = {"%r1", "%p1", "%p2", "%rd1"}


def parse(text: str):
    return operands.parse(text, lambda name: name if name in NAMES else None)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("%r1", Register("%r1")),
        ("!%p1", Register("%p1", negated=True)),
        ("%tid.x", Special("%tid.x")),
        ("-4", Immediate(-4)),
        ("0x1F", Immediate(31)),
        ("7U", Immediate(7)),
        ("010", Immediate(8)),
        ("0f3F800000", Immediate(1.0)),
        ("0dC000000000000000", Immediate(-2.0)),
        ("$L__BB0_2", Symbol("$L__BB0_2")),
        ("table+8", Symbol("table", 8)),
        ("[%rd1]", Address(Register("%rd1"), 0)),
        ("[%rd1+-4]", Address(Register("%rd1"), -4)),
        ("[name+16]", Address(Symbol("name"), 16)),
        ("{%r1, _}", Vector((Register("%r1"), Register("_")))),
        ("%p1|%p2", Pair(Register("%p1"), Register("%p2"))),
    ],
)
def test_operands(text, want):
    assert parse(text) == want


@pytest.mark.parametrize("text", ["[a+b+c]", "a*b", "[%r1, {%r1}]"])
def test_operands_that_are_not_understood_are_faults(text):
    with pytest.raises(Fault, match="unsupported"):
        parse(text)


TEXT = """
.version 8.0
.global .align 4 .b8 numbers[8] = {1, 0, 0, 0, 255};
.extern .shared .align 16 .b8 dynamic[];
.visible .entry first(
    .param .u64 .ptr .global .align 16 first_param_0, // a comment with ; and }
    .param .align 8 .b8 first_param_1[40]
)
.maxntid 128, 1, 1
{
    .reg .b32 %r<3>; .reg .b32 value;
    .shared .align 4 .b8 tile[64];
    .loc 1 12 3
    mov.u32 %r1, 1;
    .loc 2 99 1, function_name $L__info_string0, inlined_at 1 12 3
    { .reg .b32 value; mov.u32 value, %r1; }
    .loc 1 13 3
    /* several
       lines */
    mov.u32 value, %r1;
    .pragma "nounroll";
$end:
    ret;
}
.entry second() { ret; }
    .file 1 "/somewhere/kernel.cu"
    .file 2 "/somewhere/else/ops.cuh"
"""


def test_kernels_with_their_parameters_and_variables():
    kernels = ptx.parse(TEXT)
    assert list(kernels) == ["first", "second"]
    first = kernels["first"]
    assert [(p.type, p.size, p.align, p.is_struct) for p in first.parameters] == [
        ("u64", 8, 8, False), ("b8", 40, 8, True),
    ]  # fmt: skip
    assert first.variables["numbers"].data == bytes([1, 0, 0, 0, 255, 0, 0, 0])
    assert {name: v.size for name, v in first.variables.items()} == {
        "numbers": 8, "dynamic": 0, "tile": 64,
    }  # fmt: skip
    assert first.labels == {"$end": 3} and len(first.instructions) == 4


def test_lines_and_places_in_the_source():
    first = ptx.parse(TEXT)["first"]
    assert [TEXT.splitlines()[i.line - 1].strip() for i in first.instructions] == [
        "mov.u32 %r1, 1;", "{ .reg .b32 value; mov.u32 value, %r1; }", "mov.u32 value, %r1;", "ret;"
    ]  # fmt: skip
    assert [i.source for i in first.instructions] == [
        "kernel.cu:12", "kernel.cu:12 < ops.cuh:99", "kernel.cu:13", "kernel.cu:13",
    ]  # fmt: skip


def test_registers_of_inner_braces_are_others():
    first = ptx.parse(TEXT)["first"]
    inner, outer = (instruction.operands[0] for instruction in first.instructions[1:3])
    assert isinstance(inner, Register) and isinstance(outer, Register) and inner != outer
    assert first.registers[inner.name] == first.registers[outer.name] == "b32"
