"""Draw the picture of the README from a results file.

``python -m benchmarks.plot RESULTS.csv PICTURE.png`` reads the CSV and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file; needs no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.report import rivals_of, subject_of
from benchmarks.results_file import PEAK, Row, read_results

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
LABELS = {
    "torch": "PyTorch",
    "torch_avx512": "PyTorch, AVX-512 in its BLAS",
}


def _label(provider: str) -> str:
    return LABELS.get(provider, provider)


def draw_ratios(axes: Axes, rows: list[Row]) -> None:
    """Bars: time of every other provider's training step over the subject's, by network."""
    rivals = rivals_of(rows)
    chosen = [row for row in rows if row["mode"] == "train_step"]
    shapes = list(dict.fromkeys((row["net"], row["M"]) for row in chosen))
    height = 0.8 / len(rivals)
    for i, rival in enumerate(rivals):
        ratio = {(r["net"], r["M"]): float(r["speedup"]) for r in chosen if r["provider"] == rival}
        places = [y + (i - (len(rivals) - 1) / 2) * height for y in range(len(shapes))]
        widths = [ratio[shape] for shape in shapes]
        axes.barh(places, widths, height, color=COLOURS[i + 1], label=_label(rival))
        for place, width in zip(places, widths, strict=True):
            at = axes.get_yaxis_transform()  # inside the bar's foot, away from the line at 1
            axes.text(0.01, place, f"{width:.2f}", transform=at, va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shapes)), [f"{net}\nbatch {batch}" for net, batch in shapes])
    axes.invert_yaxis()
    subject = subject_of(rows)
    axes.set_xlabel(f"time of the other / time of {subject}  (above 1: {subject} is faster)")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2)
    axes.set_title("Training step: forward, loss, backward, SGD", fontsize=10)


def draw_throughput(axes: Axes, rows: list[Row], layer: str, peak: Row) -> None:
    """Lines: GFLOP/s of one layer's fprop with backward over the batch, under the FMA peak."""
    chosen = [row for row in rows if row["mode"] == "fprop_backward" and row["net"] == layer]
    for i, provider in enumerate([subject_of(rows), *rivals_of(rows)]):
        points = [(int(r["M"]), float(r["gflops"])) for r in chosen if r["provider"] == provider]
        batches, gflops = zip(*sorted(points), strict=True)
        axes.plot(batches, gflops, "o-", color=COLOURS[i], label=_label(provider))
    top = float(peak["gflops"])
    axes.axhline(top, color="black", linestyle="--", linewidth=1)
    text = f"measured FMA peak ({peak['isa']}): {top:.0f}"
    axes.text(0.02, top, text, transform=axes.get_yaxis_transform(), va="bottom", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_ylim(0, 1.12 * top)
    axes.set_xlabel("batch")
    axes.set_ylabel("GFLOP/s")
    axes.legend(loc="upper center", fontsize=8, bbox_to_anchor=(0.5, -0.12), ncols=3)
    axes.set_title(f"Linear+ReLU {layer}: forward and backward", fontsize=10)


def draw(rows: list[Row], picture: Path, dtype: str, threads: int, layer: str) -> None:
    """Write the picture.

    Args:
        rows: of a results file.
        picture: file to write; its ending gives the format.
        dtype: which rows to draw.
        threads: which rows to draw.
        layer: shape of the right panel, ``K-N``.

    Raises:
        ValueError: if the file has no rows of either panel.
    """
    kept = [row for row in rows if row["dtype"] == dtype and row["threads"] == threads]
    measured = [row for row in kept if row["provider"] != PEAK]
    for mode, net in (("train_step", None), ("fprop_backward", layer)):
        if not any(row["mode"] == mode and row["net"] == (net or row["net"]) for row in measured):
            raise ValueError(f"expected {mode} rows, {dtype}, threads {threads}, {net}: found none")
    peak = next(row for row in kept if row["provider"] == PEAK)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    draw_ratios(left, measured)
    draw_throughput(right, measured, layer, peak)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    first = measured[0]
    plural = "s" if threads > 1 else ""
    figure.suptitle(
        f"{dtype}, {threads} thread{plural}, {first['cpu']}, commit {first['commit']}", fontsize=10
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
    parser.add_argument("--layer", default="784-128")
    options = parser.parse_args()
    rows = read_results(options.results)
    draw(rows, options.picture, options.dtype, options.threads, options.layer)


if __name__ == "__main__":
    main()
