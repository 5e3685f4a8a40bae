"""Bytes, bank conflicts and shares of mma, as docs/cuda.md states them."""

from pathlib import Path

from host import counts

PAGE = Path(__file__).parents[3] / "docs" / "cuda.md"
# Of kernels of CUTLASS on the same interpreter, 256 x 256 x 256, by type and side of the tile: all
# instructions (make test-cuda-peers prints them). Operands of TF32 come rounded there; ours do not.
CUTLASS = {
    ("bfloat16", "128"): 0.164,
    ("bfloat16", "64"): 0.091,
    ("tf32", "128"): 0.218,
    ("tf32", "64"): 0.119,
}


def test_global_traffic_is_at_most_1_15_of_the_compulsory_bytes():
    ratios = {(row.kernel, row.case): row.ratio for row in counts.rows()}
    assert {name: ratio for name, ratio in ratios.items() if not 0.99 <= ratio <= 1.15} == {}


def test_no_bank_is_met_twice_in_the_steady_loop():
    assert [row for row in counts.rows() if row.conflicts] == []


def test_kernels_issue_at_least_the_share_of_mma_of_cutlass():
    kernels = [row for row in counts.rows() if not row.case.startswith(("float32", "float64"))]
    kernels = [row for row in kernels if not row.kernel.startswith("mask_bias")]
    assert len(kernels) == 16
    for row in kernels:
        side = "64" if "64" in row.kernel else "128"
        assert row.mma >= CUTLASS[row.case.split(",")[0], side], row


def test_the_page_has_these_figures():
    text = PAGE.read_text()
    for block in (counts.table(), counts.estimates()):
        assert "\n".join(block) in text, "\n" + "\n".join(block)
