"""A few lines of PTX as a kernel: one thread per number, operands %a, %b, %c, result %d."""

from collections.abc import Sequence

import numpy as np
import ptx

HEADER = ".version 8.0\n.target sm_90\n.address_size 64\n"
_REGISTERS = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}


def kernel_text(name: str, body: str, result: int, operands: Sequence[int]) -> str:
    """The kernel; results and operands are given by their sizes in bytes."""
    parameters = ["out", *[f"in_{letter}" for letter in "abc"[: len(operands)]]]
    lines = [
        f".visible .entry {name}({', '.join(f'.param .u64 {p}' for p in parameters)}) {{",
        ".reg .pred %p<4>; .reg .b32 %i<4>; .reg .b64 %x<4>;",
        f".reg .{_REGISTERS[result]} %d;",
        "mov.u32 %i0, %tid.x; mov.u32 %i1, %ctaid.x; mov.u32 %i2, %ntid.x;",
        "mad.lo.u32 %i0, %i1, %i2, %i0;",
    ]
    for letter, size in zip("abc", operands, strict=False):
        lines += [
            f".reg .{_REGISTERS[size]} %{letter};",
            f"ld.param.u64 %x0, [in_{letter}]; mul.wide.u32 %x1, %i0, {size};",
            f"add.u64 %x0, %x0, %x1; ld.global.u{8 * size} %{letter}, [%x0];",
        ]
    lines += [
        body,
        f"ld.param.u64 %x0, [out]; mul.wide.u32 %x1, %i0, {result};",
        f"add.u64 %x0, %x0, %x1; st.global.u{8 * result} [%x0], %d;",
        "ret; }",
    ]
    return "\n".join(lines) + "\n"


def evaluate(body: str, result: int, *operands: np.ndarray) -> np.ndarray:
    """Run the body for every number; all arrays hold bits as unsigned integers."""
    text = HEADER + kernel_text("snippet", body, result, [array.itemsize for array in operands])
    out = np.zeros(len(operands[0]), f"u{result}")
    assert len(out) % 32 == 0
    ptx.run(text, "snippet", len(out) // 32, 32, [out, *operands])
    return out


def random_bits(size: int, count: int, seed: int) -> np.ndarray:
    """Bits that meet edges often: few bits set, few bits clear, and any."""
    generator = np.random.default_rng(seed)
    bits = 8 * size
    values = [int.from_bytes(generator.bytes(size), "little") for _ in range(count)]
    for index in range(0, count, 3):
        edge = 1 << int(generator.integers(bits))
        near = edge + int(generator.integers(-1, 2))
        values[index] = near if index % 2 else ~near
    return np.array([value & ((1 << bits) - 1) for value in values], f"u{size}")
