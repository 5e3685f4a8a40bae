"""Draw the picture of the README from a results file.

``python -m benchmarks.plot RESULTS.csv PICTURE.png`` reads the CSV and nothing else. One panel for
each mode, a group of bars for each network, a bar for each provider that has a row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file; needs no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.providers import is_ours
from benchmarks.results_file import BANDWIDTH, PEAK, Row, read_results
from benchmarks.tables import ComparedCell, compared_cells

PANELS = {
    "train_step": "Training step: forward, loss, backward, SGD",
    "forward": "Inference: forward",
}
OURS, OTHERS, BEST = "#0072B2", "#B0B0B0", "#E69F00"  # told apart by colour-blind readers too
LABELS = {
    "pyfastnn": "pyfastnn modules",
    "pyfastnn_step": "pyfastnn TrainStep",
    "pyfastnn_prepack": "pyfastnn prepack",
    "torch": "PyTorch",
    "torch_avx512": "PyTorch, AVX-512 BLAS",
    "torch_compile": "torch.compile",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "tensorflow_xla": "TensorFlow, XLA",
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
INCHES_PER_BAR = 0.15
GAP = 2  # bars' worth of space above a group, for its name


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.3g} µs"
    return f"{microseconds / 1000:.3g} ms"


def _colour(cell: ComparedCell, provider: str) -> str:
    if is_ours(provider):
        return OURS
    return BEST if provider == cell.best_peer else OTHERS


def draw_panel(axes: Axes, cells: list[ComparedCell], peak: Row, title: str) -> None:
    """Bars: GFLOP/s of every provider by network, under the measured FMA peak."""
    top = float(peak["gflops"])
    place = 0.0
    places, names = [], []
    for cell in cells:
        place += GAP
        text = f"{cell.net}, batch {cell.batch}"
        axes.text(0, place - 1, text, va="center", fontsize=8, weight="bold")
        for provider, row in cell.rows.items():
            rate, colour = float(row["gflops"]), _colour(cell, provider)
            axes.barh(place, rate, 0.85, color=colour)
            time = _time(float(row["median_us"]))
            axes.text(rate + 0.01 * top, place, time, va="center", fontsize=7)
            places.append(place)
            names.append(LABELS.get(provider, provider))
            place += 1
    axes.axvline(top, color="black", linestyle="--", linewidth=1)
    text = f"measured FMA peak ({peak['isa']}): {top:.0f}"
    axes.text(top, 0, text + " ", ha="right", va="center", fontsize=7)
    axes.set_yticks(places, names, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(place, -0.5)
    axes.set_xlim(0, 1.12 * top)
    axes.set_xlabel("GFLOP/s (longer is faster)", fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw(rows: list[Row], picture: Path, dtype: str, threads: int, nets: str = "") -> None:
    """Write the picture.

    Args:
        rows: of a results file.
        picture: file to write; its ending gives the format.
        dtype: which rows to draw.
        threads: which rows to draw.
        nets: comma-separated ``NAME:BATCH``; all networks if empty.

    Raises:
        ValueError: if the file has no rows for any panel.
    """
    kept = [row for row in rows if row["provider"] != BANDWIDTH]
    kept = [row for row in kept if row["dtype"] == dtype and row["threads"] == threads]
    measured = [row for row in kept if row["provider"] != PEAK]
    chosen = nets.split(",") if nets else []
    cells = [
        cell
        for cell in compared_cells(measured)
        if not nets or f"{cell.net}:{cell.batch}" in chosen
    ]
    panels = {mode: [cell for cell in cells if cell.group.mode == mode] for mode in PANELS}
    panels = {mode: members for mode, members in panels.items() if members}
    if not panels:
        expected = " or ".join(PANELS)
        raise ValueError(f"expected {expected} rows, {dtype}, threads {threads}: found none")
    peak = next(row for row in kept if row["provider"] == PEAK)
    bars = max(sum(len(cell.rows) + GAP for cell in members) for members in panels.values())
    size = (5.5 * len(panels), 1.3 + INCHES_PER_BAR * bars)
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", squeeze=False
    )
    for axes, (mode, members) in zip(all_axes[0], panels.items(), strict=True):
        draw_panel(axes, members, peak, PANELS[mode])
    first = measured[0]
    plural = "s" if threads > 1 else ""
    figure.suptitle(
        f"{dtype}, {threads} thread{plural}, {first['cpu']}, commit {first['commit']}\n"
        f"blue: pyfastnn, orange: fastest other library",
        fontsize=8,
    )
    figure.savefig(picture, dpi=150)
    plt.close(figure)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog="benchmarks.plot", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nets", default="", help='e.g. "784-128-64-10:64,1024 x 5:1024"')
    options = parser.parse_args()
    rows = read_results(options.results)
    draw(rows, options.picture, options.dtype, options.threads, options.nets)


if __name__ == "__main__":
    main()
