"""Times plain and fused training in turns, in one process."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import torch
from torch import nn

import pyfastnn
from benchmarks.clients.run import Client, Run
from benchmarks.results_file import Row, quantile
from benchmarks.sample import QUIET, Sample, waited_seconds

ATTEMPTS = 3


@dataclass(frozen=True)
class Pair:
    """A sample of each, one right after the other."""

    plain: Sample
    fused: Sample

    @property
    def waited(self) -> float:
        """Share of the time without a core, the larger one."""
        return max(self.plain.waited, self.fused.waited)


def time_pairs(client: Client, pairs: int, rounds: int) -> tuple[list[Pair], Run]:
    """Train plain and fused side by side.

    Args:
        client: what to train.
        pairs: how many to measure, after one that does not count.
        rounds: of a sample.

    Returns:
        The pairs, and the fused run.
    """
    plain, fused = client.make(False), client.make(True)
    _time_pair(plain, fused, rounds)
    return [_quiet_pair(plain, fused, rounds) for _ in range(pairs)], fused


def _quiet_pair(plain: Run, fused: Run, rounds: int) -> Pair:
    """Repeat a pair that something else on the machine disturbed; the last attempt counts."""
    for _ in range(ATTEMPTS):
        pair = _time_pair(plain, fused, rounds)
        if pair.waited <= QUIET:
            break
    return pair


def _time_pair(plain: Run, fused: Run, rounds: int) -> Pair:
    samples: dict[str, Sample] = {}
    order = [("plain", plain), ("fused", fused)]
    for name, run in random.sample(order, 2):
        waited, start = waited_seconds(), time.perf_counter()
        run.learn(rounds)
        seconds = time.perf_counter() - start
        samples[name] = Sample(seconds / rounds, (waited_seconds() - waited) / seconds)
    return Pair(**samples)


def fused_layers(module: nn.Module) -> str:
    """How many linear layers run inside a fused call, of how many."""
    chains = pyfastnn.fusion_report(module).fused.values()
    linears = sum(isinstance(part, nn.Linear) for part in module.modules())
    return f"{sum(chain.count('-') for chain in chains)} of {linears}"


def row_of(client: Client, pairs: list[Pair], fused: Run) -> Row:
    """Summarise the pairs of a client: medians, and the ratio pair by pair."""
    plain_s = [pair.plain.seconds for pair in pairs]
    fused_s = [pair.fused.seconds for pair in pairs]
    ratios = [plain / fused for plain, fused in zip(plain_s, fused_s, strict=True)]
    return {
        "client": client.name,
        "layers": fused_layers(fused.module),
        "round": client.round,
        "threads": torch.get_num_threads(),
        "pairs": len(pairs),
        "waited_pct": round(100 * quantile([pair.waited for pair in pairs], 0.5), 1),
        "plain_ms": round(1e3 * quantile(plain_s, 0.5), 3),
        "fused_ms": round(1e3 * quantile(fused_s, 0.5), 3),
        "speedup": round(quantile(ratios, 0.5), 3),
        "speedup_p20": round(quantile(ratios, 0.2), 3),
        "speedup_p80": round(quantile(ratios, 0.8), 3),
    }
