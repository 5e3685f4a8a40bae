"""Tables of a results file: every cell with its ratios, then averages, then the cells that lose.

``python -m benchmarks.report RESULTS.csv`` prints them again.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.results_file import PEAK, Row, geomean, read_results
from benchmarks.sample import QUIET
from benchmarks.shapes import DTYPES, MODES

NOISE = 0.03  # two runs of the same code differ by this much on a quiet machine


def rivals_of(rows: list[Row]) -> list[str]:
    """Providers the subject was compared with, in the order they were measured."""
    names = (str(row["provider"]) for row in rows if row["provider"] != PEAK)
    return [name for name in dict.fromkeys(names) if name != subject_of(rows)]


def subject_of(rows: list[Row]) -> str:
    """The provider that the ratios are about."""
    return next(str(row["subject"]) for row in rows if row["provider"] != PEAK)


def _group(row: Row) -> tuple[Any, ...]:
    return row["mode"], row["dtype"], row["threads"]


def _order(row: Row) -> tuple[Any, ...]:
    return MODES.index(str(row["mode"])), DTYPES.index(str(row["dtype"])), row["threads"]


def _title(group: tuple[Any, ...]) -> str:
    mode, dtype, threads = group
    return f"{mode}, {dtype}, {threads} thread{'s' if threads > 1 else ''}"


def cell_tables(rows: list[Row]) -> str:
    """One table per mode, dtype and number of threads, one line per shape."""
    subject, rivals = subject_of(rows), rivals_of(rows)
    peaks = {(r["dtype"], r["threads"]): r for r in rows if r["provider"] == PEAK}
    lines = []
    measured = [row for row in rows if row["provider"] != PEAK]
    for group, members in groupby(sorted(measured, key=_order), _group):
        peak = peaks[group[1:]]
        lines.append(f"\n{_title(group)}   (peak {peak['gflops']:.0f} GFLOP/s, {peak['isa']})")
        head = f"{'shape':<20}{'batch':>6}{subject + ' us':>18}{'GFLOP/s':>9}{'% peak':>8}"
        lines.append(head + "".join(f"{name + ' us':>18}{'ratio':>8}" for name in rivals))
        cells: dict[tuple[Any, ...], dict[str, Row]] = {}
        for row in members:
            cells.setdefault((row["net"], row["M"]), {})[str(row["provider"])] = row
        for (net, batch), by_provider in cells.items():
            own = by_provider[subject]
            line = f"{net:<20}{batch:>6}{own['median_us']:>18.1f}"
            line += f"{own['gflops']:>9.1f}{own['pct_peak']:>8.1f}"
            for name in rivals:
                other = by_provider[name]
                line += f"{other['median_us']:>18.1f}{other['speedup']:>8.2f}"
            lines.append(line)
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Geometric mean, worst cell and number of losses for each group and rival."""
    subject, rivals = subject_of(rows), rivals_of(rows)
    lines = [
        f"\nratio: time of the other / time of {subject}; above 1 {subject} is faster",
        f"{'':<36}{'against':<16}{'cells':>6}{'geomean':>9}{'worst':>8}{'best':>8}"
        f"{'< 1':>5}{f'< {1 - NOISE:.2f}':>8}",
    ]
    measured = sorted((row for row in rows if row["provider"] in rivals), key=_order)
    for group, members in groupby(measured, _group):
        by_rival = list(members)
        for name in rivals:
            ratios = [float(row["speedup"]) for row in by_rival if row["provider"] == name]
            lines.append(
                f"{_title(group):<36}{name:<16}{len(ratios):>6}{geomean(ratios):>9.2f}"
                f"{min(ratios):>8.2f}{max(ratios):>8.2f}{sum(r < 1 for r in ratios):>5}"
                f"{sum(r < 1 - NOISE for r in ratios):>8}"
            )
    return "\n".join(lines)


def losses(rows: list[Row]) -> str:
    """Every cell in which the subject was slower than another provider, worst first."""
    rivals = rivals_of(rows)
    lost = [row for row in rows if row["provider"] in rivals and float(row["speedup"]) < 1]
    if not lost:
        return f"\nno cell in which {subject_of(rows)} is slower"
    lines = [f"\ncells in which {subject_of(rows)} is slower ({len(lost)})"]
    for row in sorted(lost, key=lambda row: float(row["speedup"])):
        shape = f"{row['net']} batch {row['M']}"
        lines.append(
            f"{row['speedup']:>6.2f}  {_title(_group(row)):<36}{shape:<32}{row['provider']}"
        )
    return "\n".join(lines)


def disturbances(rows: list[Row]) -> str:
    """A warning if other programs kept the providers waiting for their cores; else nothing."""
    waits = [float(row["waited_pct"]) for row in rows if row["provider"] != PEAK]
    disturbed = sum(wait > 100 * QUIET for wait in waits)
    if not disturbed:
        return ""
    return (
        f"\nWARNING: the machine was busy: {disturbed} of {len(waits)} medians are of samples that "
        f"waited for a core\nfor more than {QUIET:.0%} of their time (worst {max(waits):.0f} %)"
    )


def report(path: Path) -> str:
    """All tables of a results file, under a line that says what it was measured on."""
    rows = read_results(path)
    if all(row["provider"] == PEAK for row in rows):
        return f"{path}: nothing was measured"
    first = next(row for row in rows if row["provider"] != PEAK)
    providers = {row["provider"]: row for row in rows if row["provider"] != PEAK}
    lines = [f"{first['cpu']}, commit {first['commit']}, {first['time']}"]
    lines += [f"  {name}: {row['version']}, {row['isa']}" for name, row in providers.items()]
    return "\n".join([*lines, cell_tables(rows), summary(rows), losses(rows)]) + disturbances(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.report RESULTS.csv")
    print(report(Path(sys.argv[1])))
