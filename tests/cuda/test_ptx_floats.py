"""Floating point against fractions: one rounding, in every mode."""

import itertools

import numpy as np
import pytest
from exact_floats import BF16, F16, F32, F64, Format, finite_bits
from snippets import evaluate

COUNT = 384
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}
DTYPES = {"f16": "f2", "f32": "f4", "f64": "f8"}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF}


def close_to_cancelling(form: Format, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A third operand near ``-a * b``, so that the rounding of the product would show."""
    bits = []
    for number, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        product = form.value(x) * form.value(y)
        near = form.round(-product)
        bits.append(near if form.value(near) is not None and number % 2 else 0)
    return np.array(bits, a.dtype)


def operands(form: Format, count: int) -> list[np.ndarray]:
    """Numbers of all sizes, and numbers so close that sums and products round in the last bits."""
    wide = [finite_bits(form, COUNT, seed) for seed in range(count)]
    near = [finite_bits(form, COUNT, 7 + seed, spread=4) for seed in range(count)]
    if count == 3:
        near[2] = np.where(near[2] % 2, near[2], close_to_cancelling(form, near[0], near[1]))
        near[2] = near[2].astype(wide[2].dtype)
    return [np.concatenate(pair) for pair in zip(wide, near, strict=True)]


def check(body: str, form: Format, reference, mode: str, arrays: list[np.ndarray]) -> None:
    got = evaluate(body, form.size, *arrays)
    for index, row in enumerate(zip(*(array.tolist() for array in arrays), strict=True)):
        exact = reference(*(form.value(bits) for bits in row))
        want = form.round(exact, mode)
        zero = exact == 0 and int(got[index]) in {0, form.sign}  # signs of zeros: below
        assert zero or int(got[index]) == want, (body, [hex(bits) for bits in row], hex(want))


REFERENCES = {
    "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b),
    "fma": (3, lambda a, b, c: a * b + c),
}


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("opcode", REFERENCES)
def test_float32_arithmetic_rounds_once_in_every_mode(opcode, mode):
    count, reference = REFERENCES[opcode]
    names = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    check(f"{opcode}.{mode}.f32 {names};", F32, reference, mode, operands(F32, count))


@pytest.mark.parametrize("name", ["f16", "bf16", "f64"])
@pytest.mark.parametrize("opcode", REFERENCES)
def test_other_arithmetic_rounds_once_to_nearest(opcode, name):
    count, reference = REFERENCES[opcode]
    names = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    form = FORMATS[name]
    check(f"{opcode}.rn.{name} {names};", form, reference, "rn", operands(form, count))


def test_fma_of_float32_where_two_roundings_differ():
    # 1 + 2^-23 squared is 1 + 2^-22 + 2^-46: with 2^-24 - 2^-60 added, float64 rounds to a tie.
    a = np.full(32, 0x3F800001, np.uint32)
    c = np.float32(2.0**-24 - 2.0**-46 - 2.0**-48).view(np.uint32).repeat(32)
    got = evaluate("fma.rn.f32 %d, %a, %a, %b;", 4, a, c)
    want = F32.round(F32.value(int(a[0])) ** 2 + F32.value(int(c[0])))
    assert set(got.tolist()) == {want}


def test_fma_of_float32_rounds_once_among_subnormal_numbers_too():
    # A product just below half a step, added to an odd number of steps: float64 sees a tie.
    a, b = (
        (np.float32(1 + x) * np.float32(2.0**-75)).view("u4").repeat(32)
        for x in (2**-20, -(2**-20))
    )
    c = np.full(32, 0x00400001, np.uint32)
    assert set(evaluate("fma.rn.f32 %d, %a, %b, %c;", 4, a, b, c).tolist()) == {0x00400001}


@pytest.mark.parametrize("name", ["f16x2", "bf16x2"])
def test_pairs_are_two_numbers(name):
    form = FORMATS[name[:-2]]
    singles = operands(form, 3)
    whole = evaluate(f"fma.rn.{name} %d, %a, %b, %c;", 4, *(array.view("u4") for array in singles))
    parts = evaluate(f"fma.rn.{name[:-2]} %d, %a, %b, %c;", 2, *singles)
    np.testing.assert_array_equal(whole.view("u2"), parts)


SPECIAL = [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan]
PAIRS = list(itertools.product(SPECIAL, SPECIAL))
PAIRS += [(0.0, 0.0)] * (-len(PAIRS) % 32)
A, B = (np.array(side, np.float32) for side in zip(*PAIRS, strict=True))


def float_bits(values: np.ndarray) -> np.ndarray:
    """Bits, one pattern for every NaN."""
    return np.where(np.isnan(values), np.uint32(0x7FFFFFFF), values.view(np.uint32))


@pytest.mark.parametrize("opcode", ["add.f32", "sub.rn.f32", "mul.f32", "div.rn.f32"])
def test_zeros_infinities_and_nan_of_arithmetic(opcode):
    got = evaluate(f"{opcode} %d, %a, %b;", 4, A.view("u4"), B.view("u4")).view("f4")
    with np.errstate(all="ignore"):
        want = {"add": A + B, "sub": A - B, "mul": A * B, "div": A / B}[opcode[:3]]
    np.testing.assert_array_equal(float_bits(got), float_bits(want))


def extreme(opcode: str, a: float, b: float, keeps_nan: bool) -> float:
    if np.isnan(a) or np.isnan(b):
        return np.nan if keeps_nan or (np.isnan(a) and np.isnan(b)) else (b if np.isnan(a) else a)
    if a == b == 0:
        negative = np.signbit([a, b])
        return -0.0 if (negative.any() if opcode == "min" else negative.all()) else 0.0
    return (min if opcode == "min" else max)(a, b)


@pytest.mark.parametrize("nan", ["", ".NaN"])
@pytest.mark.parametrize("opcode", ["min", "max"])
def test_extrema_know_nan_and_the_signs_of_zeros(opcode, nan):
    want = np.array([extreme(opcode, *pair, bool(nan)) for pair in PAIRS], np.float32)
    got = evaluate(f"{opcode}{nan}.f32 %d, %a, %b;", 4, A.view("u4"), B.view("u4"))
    np.testing.assert_array_equal(got, float_bits(want))
    upper = [values.astype(np.float16).view("u2") for values in (A, B)]
    got = evaluate(f"{opcode}{nan}.f16 %d, %a, %b;", 2, *upper)
    half = np.where(np.isnan(want), np.uint16(0x7FFF), want.astype(np.float16).view("u2"))
    np.testing.assert_array_equal(got, half)


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@pytest.mark.parametrize("name", [*COMPARISONS, *(f"{name}u" for name in COMPARISONS)])
def test_comparisons_ordered_and_unordered(name):
    body = f"setp.{name}.f32 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"
    got = evaluate(body, 4, A.view("u4"), B.view("u4"))
    unordered = name.endswith("u")
    want = [
        unordered if a != a or b != b else COMPARISONS[name.removesuffix("u")](a, b)
        for a, b in PAIRS
    ]
    np.testing.assert_array_equal(got, np.array(want, np.uint32))


def test_num_and_nan_and_flushing():
    body = "setp.num.f32 %p1, %a, %b; setp.nan.f32 %p2, %a, %b; selp.u32 %d, 1, 0, %p1; "
    got = evaluate(body + "@%p2 add.u32 %d, %d, 2;", 4, A.view("u4"), B.view("u4"))
    np.testing.assert_array_equal(got, np.where(np.isnan(A) | np.isnan(B), 2, 1))
    tiny = np.array([1, 0x80000001, 0x007FFFFF, 0x00800000] * 8, np.uint32)
    np.testing.assert_array_equal(
        evaluate("mul.ftz.f32 %d, %a, 0f3F800000;", 4, tiny), [0, 1 << 31, 0, 0x00800000] * 8
    )


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_square_roots_and_reciprocals_are_rounded_once(name):
    form = FORMATS[name]
    bits = finite_bits(form, COUNT, 3, spread=60) & ~np.array(form.sign).astype(f"u{form.size}")
    root = evaluate(f"sqrt.rn.{name} %d, %a;", form.size, bits)
    inverse = evaluate(f"rcp.rn.{name} %d, %a;", form.size, bits)
    for a, r, i in zip(bits.tolist(), root.tolist(), inverse.tolist(), strict=True):
        assert i == form.round(1 / form.value(a))
        # The midpoints to both neighbours lie on both sides of the exact root.
        low, high = ((form.value(r) + form.value(r + d)) / 2 for d in (-1, 1))
        assert low**2 < form.value(a) < high**2


def test_clamping_of_halves():
    values = np.array([-1.5, -0.0, 0.25, 1.5, np.nan, np.inf, 2.0, -3.0] * 4, np.float16)
    zero = np.zeros(32, np.uint16)
    relu = evaluate("fma.rn.relu.f16 %d, %a, 0x3C00, %b;", 2, values.view("u2"), zero).view("f2")
    np.testing.assert_array_equal(relu, np.maximum(values, 0))
    sat = evaluate("add.rn.sat.f16 %d, %a, %b;", 2, values.view("u2"), zero).view("f2")
    np.testing.assert_array_equal(sat, np.clip(np.nan_to_num(values, posinf=1), 0, 1))
