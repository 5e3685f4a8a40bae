"""Binary floating point in fractions: what IEEE 754 says, computed another way than under test."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class Format:
    """A binary format: bits of the exponent and of the fraction that is stored."""

    size: int
    exponent: int
    fraction: int

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent) - 1) << self.fraction

    @property
    def sign(self) -> int:
        return 1 << (8 * self.size - 1)

    def value(self, bits: int) -> Fraction | None:
        """The number, None for infinities and NaN."""
        exponent = bits >> self.fraction & ((1 << self.exponent) - 1)
        fraction = bits & ((1 << self.fraction) - 1)
        if exponent == (1 << self.exponent) - 1:
            return None
        if exponent:
            fraction += 1 << self.fraction
        shift = max(exponent, 1) - self.bias - self.fraction
        magnitude = fraction * Fraction(2) ** shift
        return -magnitude if bits & self.sign else magnitude

    def round(self, value: Fraction, mode: str = "rn") -> int:
        """Bits of the number in the format; zero is +0."""
        negative, magnitude = value < 0, abs(value)
        # The step between neighbours at this magnitude, not below that of subnormal numbers.
        power = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
        if Fraction(2) ** power > magnitude:
            power -= 1
        step = Fraction(2) ** (max(power, 1 - self.bias) - self.fraction)
        steps, rest = divmod(magnitude, step)
        up = {
            "rn": rest > step / 2 or (rest == step / 2 and steps % 2 == 1),
            "rna": rest >= step / 2,
            "rz": False,
            "rm": negative and rest > 0,
            "rp": not negative and rest > 0,
        }[mode]
        result = (steps + up) * step
        largest = (2 - Fraction(1, 1 << self.fraction)) * Fraction(2) ** self.bias
        if result > largest:
            outward = mode in {"rn", "rna", "rm" if negative else "rp"}
            bits = self.infinity if outward else self.infinity - 1
        else:
            bits = self._encode(result)
        return bits | self.sign if negative else bits

    def _encode(self, value: Fraction) -> int:
        if value == 0:
            return 0
        power = value.numerator.bit_length() - value.denominator.bit_length()
        if Fraction(2) ** power > value:
            power -= 1
        power = max(power, 1 - self.bias)
        fraction = int(value / Fraction(2) ** (power - self.fraction))
        if fraction < 1 << self.fraction:
            return fraction
        return (power + self.bias << self.fraction) + fraction - (1 << self.fraction)


F16, BF16 = Format(2, 5, 10), Format(2, 8, 7)
F32, F64 = Format(4, 8, 23), Format(8, 11, 52)
TF32 = Format(4, 8, 10)


def finite_bits(form: Format, count: int, seed: int, spread: int = 0) -> np.ndarray:
    """Random finite numbers of all magnitudes, or of exponents within ``spread`` of 1."""
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, count)
    if spread:
        exponents = form.bias + generator.integers(-spread, spread + 1, count)
    else:
        exponents = generator.integers(0, (1 << form.exponent) - 1, count)
    fractions = generator.integers(0, 1 << form.fraction, count)
    few = generator.integers(0, 3, count) == 0  # ties are likely where few bits are set
    fractions[few] &= ~((1 << max(form.fraction - 3, 1)) - 1)
    bits = [
        (int(sign) << (8 * form.size - 1)) | (int(exponent) << form.fraction) | int(fraction)
        for sign, exponent, fraction in zip(signs, exponents, fractions, strict=True)
    ]
    return np.array(bits, f"u{form.size}")
