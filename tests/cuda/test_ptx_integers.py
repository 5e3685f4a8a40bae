"""Integer instructions against Python's integers, which do not wrap."""

import subprocess
from pathlib import Path

import numpy as np
import ptx
import pytest
from snippets import HEADER, evaluate, kernel_text, random_bits

COUNT = 192


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def field(value: int, start: int, length: int, bits: int, is_signed: bool) -> int:
    top = min(start + length - 1, bits - 1)
    sign = is_signed and length and value >> top & 1
    found = [
        (sign if i >= length or start + i >= bits else value >> (start + i) & 1)
        for i in range(bits)
    ]
    return sum(bit << i for i, bit in enumerate(found))


def inserted(a: int, b: int, start: int, length: int, bits: int) -> int:
    mask = (((1 << length) - 1) << start) & ((1 << bits) - 1)
    return (b & ~mask) | (a << start & mask)


def permuted(a: int, b: int, selector: int) -> int:
    data, result = (b << 32 | a).to_bytes(8, "little"), 0
    for i in range(4):
        choice = selector >> (4 * i) & 15
        byte = data[choice & 7]
        if choice & 8:
            byte = 255 if byte & 128 else 0
        result |= byte << (8 * i)
    return result


def saturated(value: int) -> int:
    return max(-(2**31), min(2**31 - 1, value))


def s32(value: int) -> int:
    return signed(value, 32)


def s64(value: int) -> int:
    return signed(value, 64)


# PTX, size of the result, sizes of the operands, the same in Python
CASES = [
    ("add.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a + b),
    ("add.s64 %d, %a, %b;", 8, (8, 8), lambda a, b: a + b),
    ("add.s16 %d, %a, %b;", 2, (2, 2), lambda a, b: a + b),
    ("add.sat.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: saturated(s32(a) + s32(b))),
    ("sub.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: a - b),
    ("sub.sat.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: saturated(s32(a) - s32(b))),
    ("sub.u64 %d, %a, -4;", 8, (8,), lambda a: a + 4),
    ("mul.lo.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: a * b),
    ("mul.lo.u64 %d, %a, %b;", 8, (8, 8), lambda a, b: a * b),
    ("mul.hi.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a * b >> 32),
    ("mul.hi.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: s32(a) * s32(b) >> 32),
    ("mul.hi.u64 %d, %a, %b;", 8, (8, 8), lambda a, b: a * b >> 64),
    ("mul.hi.s64 %d, %a, %b;", 8, (8, 8), lambda a, b: s64(a) * s64(b) >> 64),
    ("mul.wide.s32 %d, %a, %b;", 8, (4, 4), lambda a, b: s32(a) * s32(b)),
    ("mul.wide.u16 %d, %a, %b;", 4, (2, 2), lambda a, b: a * b),
    ("mad.lo.s32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: a * b + c),
    ("mad.wide.u32 %d, %a, %b, %c;", 8, (4, 4, 8), lambda a, b, c: a * b + c),
    ("mad.wide.s16 %d, %a, %b, %c;", 4, (2, 2, 4),
     lambda a, b, c: signed(a, 16) * signed(b, 16) + c),
    ("mad.hi.u32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: (a * b >> 32) + c),
    ("mul24.lo.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a % 2**24 * (b % 2**24)),
    ("div.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a // b if b else -1),
    ("div.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: truncated(s32(a), s32(b)) if b else -1),
    ("div.s64 %d, %a, %b;", 8, (8, 8), lambda a, b: truncated(s64(a), s64(b)) if b else -1),
    ("rem.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a % b if b else a),
    ("rem.s32 %d, %a, %b;", 4, (4, 4),
     lambda a, b: s32(a) - truncated(s32(a), s32(b)) * s32(b) if b else a),
    ("min.s32 %d, %a, %b;", 4, (4, 4), lambda a, b: min(s32(a), s32(b))),
    ("max.u64 %d, %a, %b;", 8, (8, 8), max),
    ("abs.s32 %d, %a;", 4, (4,), lambda a: abs(s32(a))),
    ("neg.s64 %d, %a;", 8, (8,), lambda a: -a),
    ("not.b16 %d, %a;", 2, (2,), lambda a: ~a),
    ("cnot.b32 %d, %a;", 4, (4,), lambda a: int(a == 0)),
    ("and.b64 %d, %a, %b;", 8, (8, 8), lambda a, b: a & b),
    ("or.b32 %d, %a, 0x80000001;", 4, (4,), lambda a: a | 0x80000001),
    ("xor.b16 %d, %a, %b;", 2, (2, 2), lambda a, b: a ^ b),
    ("sad.u32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: c + abs(a - b)),
    ("and.b32 %b, %b, 63; shl.b32 %d, %a, %b;", 4, (4, 4), lambda a, b: a << (b & 63)),
    ("shl.b64 %d, %a, %b;", 8, (8, 4), lambda a, b: a << min(b, 64)),
    ("and.b32 %b, %b, 63; shr.u32 %d, %a, %b;", 4, (4, 4), lambda a, b: a >> (b & 63)),
    ("and.b32 %b, %b, 127; shr.s64 %d, %a, %b;", 8, (8, 4), lambda a, b: s64(a) >> (b & 127)),
    ("shr.s16 %d, %a, 3;", 2, (2,), lambda a: signed(a, 16) >> 3),
    ("shf.l.wrap.b32 %d, %a, %b, %c;", 4, (4, 4, 4),
     lambda a, b, c: (b << 32 | a) << (c & 31) >> 32),
    ("shf.l.clamp.b32 %d, %a, %b, %c;", 4, (4, 4, 4),
     lambda a, b, c: (b << 32 | a) << min(c, 32) >> 32),
    ("shf.r.wrap.b32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: (b << 32 | a) >> (c & 31)),
    ("shf.r.clamp.b32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    ("bfe.u32 %d, %a, %b, %c;", 4, (4, 4, 4),
     lambda a, b, c: field(a, b & 255, c & 255, 32, False)),
    ("and.b32 %b, %b, 31; and.b32 %c, %c, 31; bfe.s32 %d, %a, %b, %c;", 4, (4, 4, 4),
     lambda a, b, c: field(a, b & 31, c & 31, 32, True)),
    ("and.b32 %b, %b, 63; and.b32 %c, %c, 63; bfe.s64 %d, %a, %b, %c;", 8, (8, 4, 4),
     lambda a, b, c: field(a, b & 63, c & 63, 64, True)),
    ("and.b32 %c, %c, 31; bfi.b32 %d, %a, %b, %c, 7;", 4, (4, 4, 4),
     lambda a, b, c: inserted(a, b, c & 31, 7, 32)),
    ("and.b32 %c, %c, 63; bfi.b64 %d, %a, %b, 32, %c;", 8, (8, 8, 4),
     lambda a, b, c: inserted(a, b, 32, c & 63, 64)),
    ("brev.b32 %d, %a;", 4, (4,), lambda a: int(f"{a:032b}"[::-1], 2)),
    ("brev.b64 %d, %a;", 8, (8,), lambda a: int(f"{a:064b}"[::-1], 2)),
    ("clz.b32 %d, %a;", 4, (4,), lambda a: 32 - a.bit_length()),
    ("clz.b64 %d, %a;", 4, (8,), lambda a: 64 - a.bit_length()),
    ("popc.b64 %d, %a;", 4, (8,), lambda a: a.bit_count()),
    ("bfind.u32 %d, %a;", 4, (4,), lambda a: a.bit_length() - 1),
    ("bfind.s32 %d, %a;", 4, (4,), lambda a: (a if a < 2**31 else a ^ 0xFFFFFFFF).bit_length() - 1),
    ("bfind.shiftamt.u32 %d, %a;", 4, (4,), lambda a: 32 - a.bit_length() if a else -1),
    ("prmt.b32 %d, %a, %b, %c;", 4, (4, 4, 4), permuted),
    ("lop3.b32 %d, %a, %b, %c, 0xCA;", 4, (4, 4, 4), lambda a, b, c: (a & b) | (~a & c)),
    ("lop3.b32 %d, %a, %b, %c, 0x96;", 4, (4, 4, 4), lambda a, b, c: a ^ b ^ c),
    ("dp4a.u32.u32 %d, %a, %b, %c;", 4, (4, 4, 4),
     lambda a, b, c: c + sum(x * y for x, y in
                             zip(a.to_bytes(4, "little"), b.to_bytes(4, "little"), strict=True))),
    ("cvt.s64.s32 %d, %a;", 8, (4,), s32),
    ("cvt.u64.u32 %d, %a;", 8, (4,), lambda a: a),
    ("cvt.u16.u32 %d, %a;", 2, (4,), lambda a: a),
    ("cvt.s32.s8 %d, %a;", 4, (4,), lambda a: signed(a % 256, 8)),
    ("cvt.sat.s16.s32 %d, %a;", 2, (4,), lambda a: max(-(2**15), min(2**15 - 1, s32(a)))),
    ("cvt.sat.u32.s32 %d, %a;", 4, (4,), lambda a: max(0, s32(a))),
    ("setp.lt.s32 %p1, %a, %b; selp.b32 %d, %a, %b, %p1;", 4, (4, 4),
     lambda a, b: a if s32(a) < s32(b) else b),
    ("setp.lt.u32 %p1|%p2, %a, %b; selp.b32 %d, %a, %b, %p2;", 4, (4, 4), max),
    ("setp.ge.u64 %p1, %a, %b; selp.u32 %d, 1, 0, !%p1;", 4, (8, 8), lambda a, b: a < b),
    ("setp.eq.s32 %p1, %a, 0; setp.ne.or.s32 %p2, %b, 0, %p1; selp.u32 %d, 1, 0, %p2;", 4, (4, 4),
     lambda a, b: a == 0 or b != 0),
    ("setp.hi.u32 %p1, %a, %b; setp.ls.u32 %p2, %a, %b; xor.pred %p3, %p1, %p2; "
     "selp.u32 %d, 1, 0, %p3;", 4, (4, 4), lambda a, b: 1),
    ("slct.b32.s32 %d, %a, %b, %c;", 4, (4, 4, 4), lambda a, b, c: a if s32(c) >= 0 else b),
    ("mov.b64 %d, {%a, %b};", 8, (4, 4), lambda a, b: b << 32 | a),
    ("mov.b64 {%i1, %d}, %a;", 4, (8,), lambda a: a >> 32),
    ("{ .reg .b16 %a; .reg .b16 hi; mov.b32 {%a, hi}, %c; mov.b32 %d, {hi, %a}; } "
     "add.u32 %d, %d, %a;", 4, (4, 4, 4), lambda a, b, c: (c >> 16 | c << 16) % 2**32 + a),
    ("@!%p0 bra skip; skip: mov.u32 %d, 7; setp.eq.u32 %p0, %a, %a; @%p0 add.u32 %d, %d, 1;",
     4, (4,), lambda a: 8),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_integer_instructions(case):
    body, size, sizes, reference = case
    operands = [random_bits(width, COUNT, seed) for seed, width in enumerate(sizes)]
    operands[-1][: COUNT // 4] = operands[0][: COUNT // 4]  # equal operands, zero differences
    for operand in operands:
        operand[::31] = 0
    got = evaluate(body, size, *operands)
    rows = zip(*(operand.tolist() for operand in operands), strict=True)
    want = np.array([int(reference(*row)) % 2 ** (8 * size) for row in rows], got.dtype)
    np.testing.assert_array_equal(got, want)


def test_the_snippets_are_ptx_that_ptxas_takes(nvcc, tmp_path):
    text = HEADER + "".join(
        kernel_text(f"k{number}", body, size, sizes).replace("skip", f"skip{number}")
        for number, (body, size, sizes, _) in enumerate(CASES)
    )
    source = tmp_path / "snippets.ptx"
    source.write_text(text)
    command = [Path(nvcc).resolve().parent / "ptxas", "-arch=sm_90", source, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_instructions_and_modifiers_are_faults():
    for body in ("vadd.s32.s32.s32 %d, %a, %a;", "add.rz.s32 %d, %a, %a;", "mov.u32 %d, %clock;"):
        with pytest.raises(ptx.Fault) as caught:
            evaluate(body, 4, random_bits(4, 32, 0))
        assert caught.value.kind == ptx.FaultKind.UNSUPPORTED
        assert caught.value.instruction == body[:-1] and caught.value.line > 3
