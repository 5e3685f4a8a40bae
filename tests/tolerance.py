"""Comparisons that say where and by how much; no tolerance is written in a test."""

import torch
from torch import Tensor

from pyfastnn.reference import Bounded


def assert_same_bits(got: Tensor, want: Tensor, what: str = "") -> None:
    """Same shape, dtype and bits; only NaN may be any NaN."""
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, got {got.shape}"
    assert got.dtype == want.dtype, f"{what}: expected {want.dtype}, got {got.dtype}"
    if torch.equal(got, want) and not (want == 0).any():
        return
    same = (got == want) & (torch.signbit(got) == torch.signbit(want))
    same |= got.isnan() & want.isnan()
    if not same.all():
        _fail(what, got, want, ~same)


def assert_equal(got: Tensor, want: Tensor, what: str = "") -> None:
    """Same shape, dtype and values; -0.0 equals 0.0 and NaN equals NaN."""
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, got {got.shape}"
    assert got.dtype == want.dtype, f"{what}: expected {want.dtype}, got {got.dtype}"
    if torch.equal(got, want):
        return
    same = (got == want) | (got.isnan() & want.isnan())
    if not same.all():
        _fail(what, got, want, ~same)


def assert_within(got: Tensor, right: Bounded, what: str = "") -> None:
    """Every element within its error bound; the bounds are in pyfastnn.reference."""
    assert got.shape == right.value.shape, f"{what}: expected {right.value.shape}, got {got.shape}"
    wrong = ~((got.double() - right.value).abs() <= right.bound)  # NaN is wrong
    if wrong.any():
        _fail(what, got, right.value, wrong, right.bound)


def _fail(what: str, got: Tensor, want: Tensor, wrong: Tensor, bound: Tensor | None = None) -> None:
    index = tuple(wrong.nonzero()[0].tolist())
    message = f"{what}: {int(wrong.sum())} of {wrong.numel()} elements are wrong; at {index}: "
    message += f"got {got[index].item()!r}, want {want[index].item()!r}"
    if bound is not None:
        message += f", error {abs(got[index].item() - want[index].item()):.3g}"
        message += f", bound {bound[index].item():.3g}"
    raise AssertionError(message)
