"""Checks that run in two processes, which talk over the loopback interface with gloo."""

import datetime
import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD = 2


class Checks(dict[str, Callable[[], None]]):
    """Functions by name, each a claim. All share one start of the processes."""

    def __call__(self, *cases: object) -> Callable[..., Callable[..., None]]:
        """Add a function, once for each case; a case is its argument, or a tuple of them."""

        def add(function: Callable[..., None]) -> Callable[..., None]:
            for case in cases:
                arguments = case if isinstance(case, tuple) else (case,)
                name = f"{function.__name__}[{'-'.join(map(str, arguments))}]"
                self[name] = partial(function, *arguments)
            if not cases:
                self[function.__name__] = function
            return function

        return add

    def run(self, folder: Path) -> list[dict[str, str]]:
        """Run all; returns what each process says of each check: "passed", or a traceback."""
        mp.spawn(_process, args=(dict(self), folder), nprocs=WORLD)
        return [torch.load(folder / f"reports{rank}") for rank in range(WORLD)]


def join(rank: int, folder: Path) -> None:
    """Make this process one of the group."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine's name resolves to
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=60),
    )


def leave() -> NoReturn:
    """End this process: gloo's threads sometimes abort one that takes down its group meanwhile."""
    os._exit(0)


def _process(rank: int, checks: dict[str, Callable[[], None]], folder: Path) -> None:
    join(rank, folder)
    reports = dict.fromkeys(checks, "not run, because a check before it failed")
    for name, check in checks.items():
        try:
            check()
        except Exception:
            reports[name] = traceback.format_exc()
            break
        reports[name] = "passed"
    torch.save(reports, folder / f"reports{rank}")
    if "not run" not in "".join(reports.values()):
        dist.barrier()
    leave()
