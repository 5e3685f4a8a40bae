"""NVIDIA's own kernels on the interpreter: right numbers, no fault, and their counts.

They were written by people who know the hardware, and they run on it: where the interpreter has a
layout of ``mma`` or ``ldmatrix`` wrong, or reports a race that is none, these tests fail. Run by
``make test-cuda-peers``; the counts are printed for comparison.
"""

import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import ptx
import pytest
from cutlass_headers import include_folder
from ptx.floats import bf16_to_float, float_to_bf16

SOURCE = Path(__file__).parent / "cutlass_gemm.cu"
# Rows outside of the matrix, and the stage after the last, are read but never used: they stay NaN
# in shared memory, so that the numbers show that nothing of them reaches the result.
CHECKS = ptx.Checks(uninitialised=False)
pytestmark = pytest.mark.usefixtures("nvcc")


@dataclass(frozen=True)
class Gemm:
    """One instance of the template, with the tiles of a block and of a warp."""

    element: str
    output: str
    tile: tuple[int, int, int]
    warp: tuple[int, int]
    instruction_depth: int

    @property
    def defines(self) -> tuple[str, ...]:
        rows, columns, depth = self.tile
        return (
            f"ELEMENT={self.element}",
            f"OUTPUT={self.output}",
            f"ROWS={rows}",
            f"COLUMNS={columns}",
            f"DEPTH={depth}",
            f"WARP_ROWS={self.warp[0]}",
            f"WARP_COLUMNS={self.warp[1]}",
            f"INSTRUCTION_DEPTH={self.instruction_depth}",
        )


BF16, F16, TF32 = "cutlass::bfloat16_t", "cutlass::half_t", "cutlass::tfloat32_t"
FLOAT = "float"  # operands that the kernel makes TF32 itself, as ours do
GEMMS = {
    "bf16-128x128": Gemm(BF16, BF16, (128, 128, 32), (64, 64), 16),
    "bf16-64x64": Gemm(BF16, BF16, (64, 64, 32), (32, 32), 16),
    "f16-128x128": Gemm(F16, F16, (128, 128, 32), (64, 64), 16),
    "tf32-128x128": Gemm(TF32, FLOAT, (128, 128, 16), (64, 64), 8),
    "tf32-64x64": Gemm(TF32, FLOAT, (64, 64, 16), (32, 32), 8),
    "float-128x128": Gemm(FLOAT, FLOAT, (128, 128, 16), (64, 64), 8),
    "float-64x64": Gemm(FLOAT, FLOAT, (64, 64, 16), (32, 32), 8),
}
ENCODE = {BF16: float_to_bf16, F16: lambda x: x.astype(np.float16)}
ENCODE |= {TF32: lambda x: x, FLOAT: lambda x: x}
DECODE = {BF16: bf16_to_float, F16: lambda x: x.astype(np.float32), FLOAT: lambda x: x}


@lru_cache
def kernels(gemm: Gemm):
    text = ptx.compile_ptx(SOURCE, defines=gemm.defines, include=[include_folder()], flags=["-w"])
    return ptx.parse(text)


@pytest.fixture(scope="session")
def program(nvcc, tmp_path_factory):
    """Compiles the host program of an instance, once."""

    @lru_cache
    def build(gemm: Gemm) -> Path:
        target = tmp_path_factory.mktemp("cutlass") / "parameters"
        flags = ["-std=c++17", "-O0", "-w", "-arch=sm_80", f"-I{include_folder()}"]
        defines = [f"-D{define}" for define in gemm.defines]
        subprocess.run([nvcc, *flags, *defines, str(SOURCE), "-o", str(target)], check=True)
        return target

    return build


def launch(gemm: Gemm, program: Path, M: int, N: int, K: int, draw):
    """Run the kernel on drawn numbers: result, exact result, report."""
    generator = np.random.default_rng(M + N + K)
    x, w, bias = (draw(generator, shape) for shape in ((M, K), (N, K), (N,)))
    x, w = ENCODE[gemm.element](x), ENCODE[gemm.element](w)
    store = ENCODE.get(gemm.output, lambda values: values)
    bias, y = store(bias), store(np.full((M, N), np.nan, np.float32))
    memory = ptx.GlobalMemory()
    addresses = [
        memory.add(x, "X", read_only=True),
        memory.add(w, "W", read_only=True),
        memory.add(bias, "bias", read_only=True),
        memory.add(y, "Y"),
    ]
    command = [str(program), *map(str, (M, N, K)), *map(str, addresses)]
    *sizes, parameter = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    gx, gy, gz, block, shared = map(int, sizes)
    report = ptx.run(
        kernels(gemm), "Kernel", (gx, gy, gz), block, [bytes.fromhex(parameter)], shared,
        memory=memory, checks=CHECKS,
    )  # fmt: skip
    decode = DECODE.get(gemm.element, lambda values: values)
    exact = decode(x).astype(np.float64) @ decode(w).astype(np.float64).T
    exact = np.maximum(exact + DECODE[gemm.output](bias), 0)
    return DECODE[gemm.output](y), exact, report


def small_integers(generator, shape):
    return generator.integers(-1, 2, shape).astype(np.float32)


def normal(generator, shape):
    return generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "shape", [(128, 128, 32), (136, 72, 64), (1, 8, 8), (256, 256, 128)], ids=str
)
@pytest.mark.parametrize("name", GEMMS)
def test_integers_come_out_exact(name, shape, program):
    gemm = GEMMS[name]
    got, exact, _ = launch(gemm, program(gemm), *shape, small_integers)
    np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("name", GEMMS)
def test_counts_of_a_large_product(name, program, capsys):
    gemm = GEMMS[name]
    got, exact, report = launch(gemm, program(gemm), 256, 256, 256, normal)
    with capsys.disabled():
        print(f"\n{name}, 256 x 256 x 256\n{report}\n  main loop:\n{report.steady_loop}")
    relative = {BF16: 2.0**-8, F16: 2.0**-11, TF32: 2.0**-9, FLOAT: 2.0**-9}[gemm.element]
    # tf32 operands are cut to 10 bits; the others are exact, and the result is rounded once.
    bound = relative * (np.abs(exact) + (256 if gemm.output == FLOAT else 2.0**-10))
    assert (np.abs(got - exact) <= bound).all()
    products = 256**3 / (16 * 8 * gemm.instruction_depth)
    assert report.families["mma"] == products
    assert report.steady_loop.bank_conflicts == 0  # what its swizzled tiles are for
