"""Compare providers cell by cell: writes the CSV, prints the tables.

``python -m benchmarks.compare --help`` lists the options. Exit code 1 if a provider was refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.crew import WorkerError
from benchmarks.machine import MachineError
from benchmarks.reference import WrongResultError
from benchmarks.report import report
from benchmarks.session import Session, add_options, selected_cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; see the module's docstring.

    Args:
        arguments: command line without the program's name, ``sys.argv`` by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__)
    add_options(parser.add_argument)
    options = parser.parse_args(arguments)
    cells = selected_cells(options)
    if not cells:
        parser.error("the options leave no cell to measure")
    try:
        with Session(options) as session:
            for done, cell in enumerate(cells, start=1):
                rounds = [session.round() for _ in range(session.prepare(cell))]
                rows = session.record(cell, rounds)
                ratios = "  ".join(f"{row['provider']} {row['speedup']:.2f}" for row in rows[1:])
                print(
                    f"[{done}/{len(cells)}] {cell.id}: {rows[0]['median_us']} us; {ratios}",
                    flush=True,
                )
    except (WrongResultError, WorkerError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(options.csv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
