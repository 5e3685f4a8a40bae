"""The table of the clients: in the results file, on the terminal, in docs/clients.md."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_file import Row

BEGIN = "<!-- table: make bench-clients -->"
END = "<!-- end of the table -->"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write all columns of all rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table, with a sentence about where it comes from and one about losses."""
    first = rows[0]
    lines = [
        f"{first['cpu']}, {first['threads']} thread, commit {first['commit']}, {first['time']}; "
        f"medians of {first['pairs']} pairs, in brackets the 20 and 80 % quantiles.",
        "",
        "| client | linear layers fused | plain, ms | fused, ms | times as fast |",
        "| --- | --- | --- | --- | --- |",
        *map(_line, rows),
    ]
    slower = [f"{row['client']}" for row in rows if float(row["speedup"]) < 1]
    lines += ["", f"Slower than plain PyTorch: {'; '.join(slower) or 'none'}."]
    return "\n".join(lines)


def _line(row: Row) -> str:
    cells = [
        f"{row['client']}, per {row['round']}",
        row["layers"],
        f"{row['plain_ms']:.3g}",
        f"{row['fused_ms']:.3g}",
        f"{row['speedup']:.2f} ({row['speedup_p20']:.2f} to {row['speedup_p80']:.2f})",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def put_into(page: str, table: str) -> str:
    """Replace what lies between the marks of a page.

    Raises:
        ValueError: if the page does not have both marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
