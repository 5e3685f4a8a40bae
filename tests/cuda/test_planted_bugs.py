"""Kernels that are right run without a word; each planted defect is named."""

from pathlib import Path

import numpy as np
import ptx
import pytest
from ptx import Fault, FaultKind
from ptx.floats import bf16_to_float, float_to_bf16

pytestmark = pytest.mark.usefixtures("nvcc")
KERNELS = Path(__file__).parent / "ptx" / "kernels"


def compiled(name: str, *defines: str, arch: str = "compute_80") -> str:
    return ptx.compile_ptx(KERNELS / name, defines=defines, arch=arch)


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-8, 8, shape).astype(np.float32)


def run_gemm(*defines: str, arch: str = "compute_80", M=70, N=24, K=72):
    x, w = float_to_bf16(integers(M, K)), float_to_bf16(integers(N, K))
    y = np.full((M, N), np.nan, np.float32)
    grid = (-(-N // 16), -(-M // 32))
    report = ptx.run(
        compiled("gemm_bf16.cu", *defines, arch=arch), "gemm", grid, 64, [x, w, y, M, N, K]
    )
    return y, bf16_to_float(x) @ bf16_to_float(w).T, report


def run_row_sums(*defines: str, M=5, N=70):
    x, sums = integers(M, N), np.zeros(M, np.float32)
    text = compiled("sums.cu", *defines)
    ptx.run(text, "row_sums", (-(-N // 32), -(-M // 4)), (32, 4), [x, sums, M, N])
    return sums, x.sum(axis=1), None


def run_reverse(*defines: str):
    x, y = integers(256), np.zeros(256, np.float32)
    ptx.run(compiled("sums.cu", *defines), "reverse", 2, 128, [x, y])
    return y, x.reshape(-1, 32)[:, ::-1].ravel(), None


def run_halves(*defines: str):
    x, y = integers(32), np.zeros(32, np.float32)
    ptx.run(compiled("sums.cu", *defines), "reverse_halves", 1, 32, [x, y])
    return y, x.reshape(2, 16)[:, ::-1].ravel(), None


def run_twice(*defines: str):
    x, y = integers(256), np.zeros(256, np.float32)
    ptx.run(compiled("sums.cu", *defines), "twice", 3, 32, [x, y, 256])
    return y, 2 * x, None


def run_block_sums(*defines: str):
    x, total = integers(200), np.zeros(4, np.float32)
    text = compiled("sums.cu", *defines)
    ptx.run(text, "block_sums", 4, 64, [x, total, 200], shared_bytes=256)
    return total, np.append(x, np.zeros(56)).reshape(4, 64).sum(axis=1), None


def run_histogram(*defines: str):
    x, counts = np.arange(300, dtype=np.uint32) ** 2, np.zeros(8, np.uint32)
    ptx.run(compiled("sums.cu", *defines), "histogram", 3, 128, [x, counts, 300])
    return counts, np.bincount(x % 8, minlength=8), None


RUNS = [
    run_gemm,
    run_row_sums,
    run_reverse,
    run_halves,
    run_twice,
    run_block_sums,
    run_histogram,
]


@pytest.mark.parametrize("run", RUNS)
def test_right_kernels_are_silent_and_give_the_right_numbers(run):
    got, want, _ = run()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("arch", ["compute_90", "compute_100"])
def test_other_architectures_give_the_same_numbers(arch):
    got, want, _ = run_gemm(arch=arch)
    np.testing.assert_array_equal(got, want)


BUGS = [
    (run_gemm, "BUG_NO_SYNC_AFTER_LOAD", FaultKind.RACE, "ldmatrix"),
    (run_gemm, "BUG_NO_SYNC_AT_LOOP_END", FaultKind.RACE, "cp.async"),
    (run_gemm, "BUG_NO_SYNC_BEFORE_REUSE", FaultKind.RACE, "st.shared"),
    (run_gemm, "BUG_NO_SYNC_AFTER_STORE", FaultKind.RACE, "ld.shared"),
    (run_gemm, "BUG_WAIT_ONE_SHORT", FaultKind.IN_FLIGHT, "ldmatrix"),
    (run_gemm, "BUG_UNINITIALISED", FaultKind.UNINITIALISED, "ldmatrix"),
    (run_gemm, "BUG_READ_OUT_OF_BOUNDS", FaultKind.OUT_OF_BOUNDS, "cp.async"),
    (run_gemm, "BUG_WRITE_OUT_OF_BOUNDS", FaultKind.OUT_OF_BOUNDS, "st.global"),
    (run_gemm, "BUG_MISALIGNED", FaultKind.MISALIGNED, "cp.async"),
    (run_gemm, "BUG_LDMATRIX_OUTSIDE", FaultKind.OUT_OF_BOUNDS, "ldmatrix"),
    (run_row_sums, "BUG_DIVERGENT_SHUFFLE", FaultKind.COLLECTIVE, "shfl"),
    (run_row_sums, "BUG_SHUFFLE_AFTER_RETURN", FaultKind.COLLECTIVE, "shfl"),
    (run_row_sums, "BUG_LOST_UPDATE", FaultKind.RACE, "st.global"),
    (run_reverse, "BUG_NO_SYNCWARP", FaultKind.RACE, "ld.shared"),
    (run_reverse, "BUG_NO_SYNCWARP_AT_LOOP_END", FaultKind.RACE, "st.shared"),
    (run_halves, "BUG_WRONG_HALF", FaultKind.RACE, "ld.shared"),
    (run_twice, "BUG_MISALIGNED_STORE", FaultKind.MISALIGNED, "st.global"),
    (run_block_sums, "BUG_EARLY_RETURN", FaultKind.BARRIER, "bar.sync"),
    (run_block_sums, "BUG_NOT_FILLED", FaultKind.UNINITIALISED, "ld.shared"),
    (run_block_sums, "BUG_BARRIER_IN_BRANCH", FaultKind.BARRIER, "bar.sync"),
    (run_block_sums, "BUG_NO_SYNC_IN_TREE", FaultKind.RACE, "shared"),
    (run_block_sums, "BUG_BLOCKS_SHARE_A_PLACE", FaultKind.RACE, "st.global"),
    (run_histogram, "BUG_PLAIN_INCREMENT", FaultKind.RACE, "shared"),
    (run_histogram, "BUG_NO_SYNC_AFTER_ATOMICS", FaultKind.RACE, "ld.shared"),
]


@pytest.mark.parametrize(("run", "bug", "kind", "instruction"), BUGS, ids=[bug[1] for bug in BUGS])
def test_a_planted_bug_is_named(run, bug, kind, instruction):
    with pytest.raises(Fault) as caught:
        run(bug)
    fault = caught.value
    assert (fault.kind, instruction in fault.instruction) == (kind, True), str(fault)
    assert fault.threads and fault.line and ".cu:" in fault.source


def test_a_wrong_row_of_ldmatrix_shows_in_the_numbers_only():
    got, want, _ = run_gemm("BUG_LDMATRIX_ROW")
    assert not np.array_equal(got, want)
