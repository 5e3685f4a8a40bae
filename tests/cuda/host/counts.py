"""What kernels move and issue: the table of docs/cuda.md, and an estimate from it.

``compulsory`` is what a perfect kernel of the same design moves between a block and global memory:
inputs and results once, weights once for each block of rows, parts of weight gradients written and
read once. ``moved`` is what lanes asked for.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from .arrays import DTYPES
from .binaries import short_name
from .cases import KINDS, random_network, random_rows
from .device import Device, Launched
from .networks import linear, mask_bias

# Published figures of the data sheets: memory TB/s, dense tensor TFLOP/s (16-bit, TF32), float32.
GPUS = {
    "A100 SXM 80 GB": (2.04, {"bfloat16": 312, "float16": 312, "tf32": 156, "float32": 19.5}),
    "H100 SXM": (3.35, {"bfloat16": 989, "float16": 989, "tf32": 494, "float32": 67}),
}


@dataclass(frozen=True)
class Row:
    """Counts of one kernel in one case."""

    kernel: str
    case: str
    moved: int
    compulsory: int
    conflicts: int
    loop_mma: float
    mma: float
    shared: int

    @property
    def ratio(self) -> float:
        """Bytes moved per compulsory byte."""
        return self.moved / self.compulsory


def _moved(launched: Launched) -> int:
    report = launched.report
    return sum(report.bytes_loaded.values()) + sum(report.bytes_stored.values())


def _row(launched: Launched, case: str, compulsory: int) -> Row:
    report = launched.report
    loop = report.steady_loop if report.loops else report
    return Row(
        short_name(launched.name),
        case,
        _moved(launched),
        compulsory,
        loop.bank_conflicts,
        loop.mma_share,
        report.mma_share,
        launched.shared,
    )


def network_rows(kind: str, rows: int, width: int, depth: int) -> list[Row]:
    """Forward and backward of a network of equal widths, training."""
    dtype, _ = KINDS[kind]
    network = random_network((width,) * (depth + 1), kind)
    x, dy = (random_rows(rows, width, dtype) for _ in range(2))
    case = f"{kind}, {rows} rows, {depth} x {width}"
    element = DTYPES[dtype].storage().itemsize
    batch, weight = rows * width * element, width * width * element
    device = Device()
    outputs = network.forward(device, x)
    found = []
    for launched in device.launches:
        blocks = launched.grid[0]
        weights = depth * (weight + width * element)
        found.append(_row(launched, case, batch * (1 + depth) + blocks * weights))
    device = Device()
    network.backward(device, dy, x, outputs)
    for launched in device.launches:
        name, blocks = launched.name, launched.grid[0]
        if "chain" in name:
            # dY; of every layer but the first, its mask and dZ; dX; transposed weights
            total = batch * (2 + 2 * (depth - 1)) + blocks * depth * weight
        elif "wgrad" in name:
            parts = launched.grid[0] * depth * (width * width + width) * 4
            total = 2 * depth * batch + parts
        else:
            continue
        found.append(_row(launched, case, total))
    return found


def mask_bias_row(dtype: str, rows: int, width: int) -> Row:
    """The mask and the bias gradient of a layer; its second stage is left out."""
    device = Device()
    y, dy = random_rows(rows, width, dtype), random_rows(rows + 1, width, dtype)[1:].copy()
    mask_bias(device, dy, y, dtype)
    launched = device.launches[0]
    element = DTYPES[dtype].storage().itemsize
    sums = 8 if dtype == "float64" else 4
    total = 3 * rows * width * element + launched.grid[1] * width * sums
    return _row(launched, f"{dtype}, {rows} x {width}", total)


def linear_row(kind: str, m: int, n: int, k: int, blocks: int | None = None) -> Row:
    """One layer of whole tiles, or the last blocks of it; operands once for every tile."""
    dtype, tf32 = KINDS[kind]
    device = Device(last_blocks=blocks)
    b = random_rows(n, 1, dtype)[:, 0].copy()
    linear(device, random_rows(m, k, dtype), random_rows(n, k, dtype), b, dtype, tf32=tf32)
    launched = device.launches[0]
    side = int(re.findall(r", (\d+)>", short_name(launched.name))[0])
    tiles = launched.report.warps * 32 // launched.threads
    total = tiles * side * (2 * k + side) * DTYPES[dtype].storage().itemsize
    case = f"{kind}, {m} x {n} x {k}" + (f", {blocks} blocks of it" if blocks else "")
    return _row(launched, case, total)


@lru_cache
def rows() -> list[Row]:
    """The cases of the table."""
    found = []
    for kind, depth in (("bfloat16", 4), ("tf32", 4), ("float32", 2)):
        found += network_rows(kind, 512, 64, depth)
        found += network_rows(kind, 256, 128, depth)
    found += [mask_bias_row(dtype, 512, 256) for dtype in ("bfloat16", "float32", "float64")]
    for kind in ("bfloat16", "tf32", "float32"):
        found += [linear_row(kind, 256, 256, 256), linear_row(kind, 2048, 2048, 256, blocks=4)]
    return found


def table() -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| kernel | case | bytes moved / compulsory | bank conflicts in the loop "
        "| mma share, loop | mma share, all | dynamic shared memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows():
        share = [f"{100 * s:.1f} %" if row.mma else "-" for s in (row.loop_mma, row.mma)]
        lines.append(
            f"| `{row.kernel}` | {row.case} | {row.ratio:.2f} | {row.conflicts} | {share[0]} | "
            f"{share[1]} | {row.shared / 1024:.1f} KB |"
        )
    return lines


def estimates() -> list[str]:
    """Lines of Markdown: time of a training step's two passes if nothing but the figures of a data
    sheet held it up; bytes that come from memory, each once, or operations, whichever takes longer.
    """
    lines = [
        "| network, 65536 rows | pass | bytes | operations | "
        + " | ".join(f"{gpu}, estimate" for gpu in GPUS)
        + " |",
        "| --- | --- | --- | --- |" + " --- |" * len(GPUS),
    ]
    m, depth = 65536, 4
    for kind in ("bfloat16", "tf32", "float32"):
        element = DTYPES[KINDS[kind][0]].storage().itemsize
        for width in (64, 128):
            batch, product = m * width * element, 2 * m * width * width
            passes = {
                "forward": (batch * (1 + depth), depth * product),
                "backward": (batch * (2 * depth + 2 * depth), 2 * depth * product),
            }
            for name, (moved, operations) in passes.items():
                times = [
                    max(moved / (memory * 1e12), operations / (peaks[kind] * 1e12)) * 1e6
                    for memory, peaks in GPUS.values()
                ]
                cells = " | ".join(f"{time:.0f} us" for time in times)
                lines.append(
                    f"| {kind}, {depth} x {width} | {name} | {moved / 1e6:.0f} MB | "
                    f"{operations / 1e9:.1f} G | {cells} |"
                )
    return lines
