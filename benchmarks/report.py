"""Tables of a results file: every cell with its ratios, then averages, then the cells that lose.

``python -m benchmarks.report RESULTS.csv`` prints them again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.results_file import LIMITS, Row, geomean, read_results
from benchmarks.sample import QUIET
from benchmarks.tables import (
    ComparedCell,
    Group,
    compared_cells,
    grouped,
    memory_tables,
    providers_of,
    ratio_tables,
    roofline_tables,
)

NOISE = 0.03  # two runs of the same code differ by this much on a quiet machine


def _subjects(cells: list[ComparedCell]) -> str:
    return ", ".join(dict.fromkeys(cell.subject for cell in cells))


def _summary_line(group: Group, name: str, ratios: list[float]) -> str:
    return (
        f"{group.title:<36}{name:<16}{len(ratios):>6}{geomean(ratios):>9.2f}"
        f"{min(ratios):>8.2f}{max(ratios):>8.2f}{sum(r < 1 for r in ratios):>5}"
        f"{sum(r < 1 - NOISE for r in ratios):>8}"
    )


def summary(rows: list[Row]) -> str:
    """Geometric mean, worst cell and number of losses for each group and rival.

    The best peer is in each cell the fastest of those that are not a form of pyfastnn.
    """
    lines = []
    for group, cells in grouped(compared_cells(rows)):
        for name in providers_of(cells):
            ratios = [cell.ratios[name] for cell in cells if name in cell.ratios]
            if ratios:
                lines.append(_summary_line(group, name, ratios))
        if len({name for cell in cells for name in cell.peers}) > 1:
            best = [cell.ratios[cell.best_peer] for cell in cells if cell.best_peer]
            lines.append(_summary_line(group, "best peer", best))
    subject = _subjects(compared_cells(rows))
    head = [
        f"\nratio: time of the other / time of {subject}; above 1 {subject} is faster",
        f"{'':<36}{'against':<16}{'cells':>6}{'geomean':>9}{'worst':>8}{'best':>8}"
        f"{'< 1':>5}{f'< {1 - NOISE:.2f}':>8}",
    ]
    return "\n".join(head + lines)


def losses(rows: list[Row]) -> str:
    """Every cell in which the subject was slower than another provider, worst first."""
    cells = compared_cells(rows)
    lost = [cell for cell in cells if cell.worst < 1]
    if not lost:
        return f"\nno cell in which {_subjects(cells)} is slower"
    to_peers = sum(bool(cell.best_peer) and cell.ratios[cell.best_peer] < 1 for cell in lost)
    lines = [
        f"\ncells in which {_subjects(cells)} is slower ({len(lost)})",
        *(f"(against the best peer: {to_peers})" for _ in range(to_peers != len(lost))),
    ]
    for cell in sorted(lost, key=lambda cell: cell.worst):
        winners = sorted((ratio, name) for name, ratio in cell.ratios.items() if ratio < 1)
        text = ", ".join(f"{name} {ratio:.2f}" for ratio, name in winners)
        lines.append(f"{cell.worst:>6.2f}  {cell.group.title:<36}{cell.shape:<32}{text}")
    return "\n".join(lines)


def disturbances(rows: list[Row]) -> str:
    """A warning if other programs kept the providers waiting for their cores; else nothing."""
    waits = [float(row["waited_pct"]) for row in rows if row["provider"] not in LIMITS]
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
    measured = [row for row in rows if row["provider"] not in LIMITS]
    if not measured:
        return f"{path}: nothing was measured"
    first = measured[0]
    providers = {row["provider"]: row for row in measured}
    lines = [f"{first['cpu']}, commit {first['commit']}, {first['time']}"]
    lines += [f"  {name}: {row['version']}, {row['isa']}" for name, row in providers.items()]
    tables = (ratio_tables, roofline_tables, memory_tables, summary, losses)
    return "\n".join([*lines, *filter(None, (table(rows) for table in tables))]) + disturbances(
        rows
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.report RESULTS.csv")
    print(report(Path(sys.argv[1])))
