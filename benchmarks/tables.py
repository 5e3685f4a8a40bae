"""The rows of a results file cell by cell, and the tables that have one line for each cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from benchmarks.providers import is_ours
from benchmarks.results_file import BANDWIDTH, LIMITS, PEAK, Row
from benchmarks.shapes import DTYPES, MODES


@dataclass(frozen=True)
class Group:
    """The cells of one table."""

    mode: str
    dtype: str
    threads: int

    @property
    def title(self) -> str:
        """As it is printed."""
        return f"{self.mode}, {self.dtype}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorting key."""
        return MODES.index(self.mode), DTYPES.index(self.dtype), self.threads


@dataclass(frozen=True)
class ComparedCell:
    """The rows of one cell.

    Args:
        group: the table it belongs to.
        net: name of the shape.
        batch: rows of the input.
        rows: by provider.
    """

    group: Group
    net: str
    batch: int
    rows: dict[str, Row]

    @property
    def shape(self) -> str:
        """As it is printed."""
        return f"{self.net} batch {self.batch}"

    @property
    def subject(self) -> str:
        """The provider that the cell's ratios are about."""
        return str(next(iter(self.rows.values()))["subject"])

    @property
    def ratios(self) -> dict[str, float]:
        """Time of each other provider over the subject's."""
        others = ((name, row) for name, row in self.rows.items() if name != self.subject)
        return {name: float(row["speedup"]) for name, row in others}

    @property
    def peers(self) -> list[str]:
        """The other providers that are not a form of pyfastnn."""
        return [name for name in self.ratios if not is_ours(name)]

    @property
    def best_peer(self) -> str:
        """The fastest of the peers; empty if the cell has none."""
        return min(self.peers, key=self.ratios.__getitem__, default="")

    @property
    def worst(self) -> float:
        """Ratio to the fastest other provider."""
        return min(self.ratios.values(), default=float("inf"))


def compared_cells(rows: list[Row]) -> list[ComparedCell]:
    """All cells of a file, sorted by group, else in the order they were measured."""
    cells: dict[tuple[Group, str, int], dict[str, Row]] = {}
    for row in rows:
        if row["provider"] not in LIMITS:
            group = Group(str(row["mode"]), str(row["dtype"]), int(row["threads"]))
            key = group, str(row["net"]), int(row["M"])
            cells.setdefault(key, {})[str(row["provider"])] = row
    found = [ComparedCell(*key, by_provider) for key, by_provider in cells.items()]
    return sorted(found, key=lambda cell: cell.group.order)


def grouped(cells: list[ComparedCell]) -> Iterator[tuple[Group, list[ComparedCell]]]:
    """The cells of each table."""
    for group, members in groupby(cells, lambda cell: cell.group):
        yield group, list(members)


def providers_of(cells: list[ComparedCell]) -> list[str]:
    """All who have a row in one of the cells, in the order they were measured."""
    return list(dict.fromkeys(name for cell in cells for name in cell.rows))


def _columns(names: list[str], texts: dict[str, str]) -> str:
    """A column for each provider, as wide as its name; a dash for one that has no row."""
    return "".join(f"{texts.get(name, '-'):>{max(7, len(name)) + 1}}" for name in names)


def _heading(names: list[str]) -> str:
    return _columns(names, {name: name for name in names})


def ratio_tables(rows: list[Row]) -> str:
    """The subject's time and rate, the best peer, and the ratios to all others."""
    peaks = {(r["dtype"], r["threads"]): r for r in rows if r["provider"] == PEAK}
    lines = []
    for group, cells in grouped(compared_cells(rows)):
        peak = peaks[group.dtype, group.threads]
        subjects = list(dict.fromkeys(cell.subject for cell in cells))
        rivals = [name for name in providers_of(cells) if any(name in c.ratios for c in cells)]
        lines.append(f"\n{group.title}   (peak {peak['gflops']:.0f} GFLOP/s, {peak['isa']})")
        lines.append(f"{', '.join(subjects)}: us, GFLOP/s, % of peak; the others: ratio of times")
        head = f"{'shape':<20}{'batch':>6}{'us':>11}{'GFLOP/s':>9}{'% peak':>8}"
        lines.append(head + _heading(rivals) + "  best peer")
        for cell in cells:
            own = cell.rows[cell.subject]
            ratios = {name: f"{ratio:.2f}" for name, ratio in cell.ratios.items()}
            line = f"{cell.net:<20}{cell.batch:>6}{own['median_us']:>11.1f}{own['gflops']:>9.1f}"
            line += f"{own['pct_peak']:>8.1f}{_columns(rivals, ratios)}"
            lines.append(f"{line}  {ratios.get(cell.best_peer, '-')} {cell.best_peer}".rstrip())
    return "\n".join(lines)


def _value_tables(rows: list[Row], column: str, heading: str) -> str:
    """One column of the file for every provider; empty if no row has it."""
    kept = [row for row in rows if row["provider"] not in LIMITS and row[column] != ""]
    lines = []
    for group, cells in grouped(compared_cells(kept)):
        names = providers_of(cells)
        lines.append(f"\n{group.title}: {heading}")
        lines.append(f"{'shape':<20}{'batch':>6}" + _heading(names))
        for cell in cells:
            values = {name: f"{row[column]:.1f}" for name, row in cell.rows.items()}
            lines.append(f"{cell.net:<20}{cell.batch:>6}{_columns(names, values)}")
    return "\n".join(lines)


def roofline_tables(rows: list[Row]) -> str:
    """Share of the roofline of the cells whose parameters no cache can hold."""
    heading = "% of the roofline, max(flops / peak, bytes / bandwidth)"
    tables = _value_tables(rows, "pct_roofline", heading)
    rates: dict[int, list[str]] = {}
    for row in rows:
        if row["provider"] == BANDWIDTH:
            text = f"{row['isa']} {row['gb_per_s']:.1f} GB/s"
            rates.setdefault(int(row["threads"]), []).append(text)
    texts = [f"{', '.join(found)} on {threads}" for threads, found in rates.items()]
    return tables and f"{tables}\nmeasured memory bandwidth by threads: {'; '.join(texts)}"


def memory_tables(rows: list[Row]) -> str:
    """Peak memory of every cell, if it was measured."""
    return _value_tables(rows, "peak_mb", "peak memory in a fresh process, MB")
