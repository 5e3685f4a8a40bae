"""Time training with unchanged libraries, plain and fused in turns: ``make bench-clients``."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.clients import CLIENTS
from benchmarks.clients.table import markdown, put_into, write_csv
from benchmarks.clients.timing import row_of, time_pairs
from benchmarks.machine import HERE, commit, cpu_model, pick_cores
from benchmarks.results_file import Row

ROOT = HERE.parent


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.clients", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="short samples, three pairs, and docs/ stays as it is")
    add("--client", default="", help="keep the clients whose name contains this")
    add("--pairs", type=int, default=15, help="pairs of samples (default: %(default)s)")
    add("--csv", type=Path, default=ROOT / "out" / "clients.csv", help="results file, overwritten")
    add("--page", type=Path, default=ROOT / "docs" / "clients.md", help="where the table goes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options = parse(arguments)
    warnings.simplefilter("ignore")  # of the libraries
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.sched_setaffinity(0, pick_cores(1))
    torch.set_num_threads(1)
    now = datetime.datetime.now(datetime.UTC)
    run: Row = {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}", "commit": commit(), "cpu": cpu_model()}
    rows: list[Row] = []
    for client in CLIENTS.values():
        if options.client not in client.name:
            continue
        rounds = max(1, client.timed // 10) if options.quick else client.timed
        pairs, fused = time_pairs(client, 3 if options.quick else options.pairs, rounds)
        rows.append(run | row_of(client, pairs, fused))
        print(f"{client.name}: {rows[-1]['speedup']:.2f}", flush=True)
    if not rows:
        print(f"no client has {options.client!r} in its name", file=sys.stderr)
        return 1
    write_csv(options.csv, rows)
    print(markdown(rows))
    if len(rows) == len(CLIENTS) and not options.quick:
        options.page.write_text(put_into(options.page.read_text(), markdown(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
