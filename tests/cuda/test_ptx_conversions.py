"""Conversions between types, rounding and clamping, against fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from exact_floats import BF16, F16, F32, F64, TF32, finite_bits
from snippets import evaluate, random_bits

COUNT = 384
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}


def floats_around(name: str, spread: int) -> np.ndarray:
    form = FORMATS[name]
    wide, near = finite_bits(form, COUNT, 1), finite_bits(form, COUNT, 2, spread=spread)
    return np.concatenate([wide, near])


NARROWING = [
    ("f32", "f64", ("rn", "rz", "rm", "rp")),
    ("f16", "f32", ("rn", "rz")),
    ("f16", "f64", ("rn",)),
    ("bf16", "f32", ("rn", "rz")),
]


@pytest.mark.parametrize(
    ("target", "source", "mode"),
    [(target, source, mode) for target, source, modes in NARROWING for mode in modes],
)
def test_narrowing_rounds_once(target, source, mode):
    bits = floats_around(source, 8)
    wide, narrow = FORMATS[source], FORMATS[target]
    got = evaluate(f"cvt.{mode}.{target}.{source} %d, %a;", narrow.size, bits)
    for value, result in zip(bits.tolist(), got.tolist(), strict=True):
        want = narrow.round(wide.value(value), mode)
        sign = narrow.sign if value & wide.sign else 0
        assert result == want | sign, (hex(value), hex(want))


@pytest.mark.parametrize(("target", "source"), [("f64", "f32"), ("f32", "f16"), ("f32", "bf16")])
def test_widening_is_exact(target, source):
    bits = floats_around(source, 4)
    narrow, wide = FORMATS[source], FORMATS[target]
    got = evaluate(f"cvt.{target}.{source} %d, %a;", wide.size, bits)
    assert [wide.value(b) for b in got.tolist()] == [narrow.value(b) for b in bits.tolist()]


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rn.relu"])
def test_pairs_hold_the_first_operand_above_the_second(name, mode):
    a, b = (finite_bits(F32, COUNT, seed, spread=20) for seed in (1, 2))
    got = evaluate(f"cvt.{mode}.{name}x2.f32 %d, %a, %b;", 4, a, b)
    halves = [evaluate(f"cvt.{mode}.{name}.f32 %d, %a;", 2, bits) for bits in (a, b)]
    np.testing.assert_array_equal(got >> 16, halves[0])
    np.testing.assert_array_equal(got & 0xFFFF, halves[1])
    if "relu" in mode:
        assert not (got & 0x80008000).any()


def test_nan_becomes_the_canonical_nan_and_infinity_stays():
    values = np.array([0x7FC00001, 0xFF800001, 0x7F800000, 0xFF800000] * 8, np.uint32)
    for name, infinity in (("f16", 0x7C00), ("bf16", 0x7F80)):
        got = evaluate(f"cvt.rn.{name}.f32 %d, %a;", 2, values)
        assert got.tolist() == [0x7FFF, 0x7FFF, infinity, infinity | 0x8000] * 8


@pytest.mark.parametrize("mode", ["rna", "rn", "rz"])
def test_tf32_keeps_ten_bits(mode):
    bits = floats_around("f32", 8)
    bits[::3] &= 0xFFFFF000  # halfway between two numbers
    got = evaluate(f"cvt.{mode}.tf32.f32 %d, %a;", 4, bits)
    for value, result in zip(bits.tolist(), got.tolist(), strict=True):
        want = TF32.round(F32.value(value), mode)
        # The same number with 13 zeros behind it; exponents are those of float32.
        magnitude = (want & ~TF32.sign) << 13 & 0x7FFFFFFF
        assert result == magnitude | (value & F32.sign), hex(value)


ROUNDED = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("target", ["s32", "u32", "s64", "u64"])
def test_floats_to_integers_clamp(target, source, mode):
    bits = floats_around(source, 70)
    size = int(target[1:]) // 8
    low, high = (-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1)
    if target[0] == "u":
        low, high = 0, 2 ** (8 * size) - 1
    got = evaluate(f"cvt.{mode}.{target}.{source} %d, %a;", size, bits)
    for value, result in zip(bits.tolist(), got.tolist(), strict=True):
        want = min(high, max(low, ROUNDED[mode](FORMATS[source].value(value))))
        assert result == want % 2 ** (8 * size), hex(value)


def test_nan_to_integers():
    nan = np.full(32, 0x7FC00000, np.uint32)
    assert not evaluate("cvt.rzi.s32.f32 %d, %a;", 4, nan).any()
    assert set(evaluate("cvt.rzi.s64.f32 %d, %a;", 8, nan).tolist()) == {1 << 63}


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("source", ["s32", "u32"])
def test_integers_to_float32_in_every_mode(source, mode):
    bits = random_bits(4, COUNT, 5)
    got = evaluate(f"cvt.{mode}.f32.{source} %d, %a;", 4, bits)
    numbers = bits.view(np.int32) if source == "s32" else bits
    want = [F32.round(Fraction(number), mode) for number in numbers.tolist()]
    assert got.tolist() == want


@pytest.mark.parametrize(
    ("target", "source"),
    [("f32", "s64"), ("f32", "u64"), ("f64", "s64"), ("f64", "u64"), ("f64", "s32"), ("f16", "s32"),
     ("f16", "u16"), ("bf16", "s32")],
)  # fmt: skip
def test_integers_to_floats_round_to_nearest(target, source):
    size = int(source[1:]) // 8
    bits = random_bits(size, COUNT, 6)
    form = FORMATS[target]
    got = evaluate(f"cvt.rn.{target}.{source} %d, %a;", form.size, bits)
    numbers = bits.view(f"i{size}") if source[0] == "s" else bits
    assert got.tolist() == [form.round(Fraction(number)) for number in numbers.tolist()]


def test_rounding_to_integral_floats_and_saturation():
    values = np.array([0.5, 1.5, -0.5, 2.25, np.nan, np.inf, -3.7, 0.0] * 4, np.float32)
    got = evaluate("cvt.rni.f32.f32 %d, %a;", 4, values.view("u4")).view("f4")
    np.testing.assert_array_equal(got, np.rint(values))
    got = evaluate("cvt.sat.f32.f32 %d, %a;", 4, values.view("u4")).view("f4")
    np.testing.assert_array_equal(got, [0.5, 1, 0, 1, 0, 1, 0, 0] * 4)
