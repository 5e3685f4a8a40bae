"""A process that holds one provider, checks and times it when the coordinator asks.

Started by `crew.Worker`; it never decides when to run, and is stopped while others are timed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection

from benchmarks.inputs import Arrays, make_inputs
from benchmarks.memory import peak_bytes, reset_peak, resident_bytes
from benchmarks.providers import Provider, Workload, find_provider
from benchmarks.sample import Sample, waited_seconds
from benchmarks.shapes import Cell

WARM_UP_SECONDS = 0.1  # a new workload is slower and unsteady for about this long
MEMORY_STEPS = 3
TINY_SIZES = (8, 8)
SAMPLE_SECONDS = 2e-3  # a timed sample repeats the step until it lasts about this long


class Seat:
    """The commands a worker answers; each public method is one.

    Args:
        provider: ready to build workloads.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._workload: Workload | None = None
        self._repetitions = 1

    def describe(self) -> dict[str, str]:
        """See `Provider.describe`."""
        return self._provider.describe()

    def load(self, cell: Cell, inputs: Arrays) -> Arrays:
        """Build a cell's workload and return the results of its first run."""
        self._workload = None  # frees the previous one first
        gc.collect()
        self._workload = self._provider.build(cell, inputs)
        return self._workload.results()

    def calibrate(self) -> float:
        """Warm up, then choose how often a sample repeats the step.

        Returns:
            Seconds a sample will take.
        """
        assert self._workload is not None
        start = time.perf_counter()
        steps = 0
        while steps == 0 or time.perf_counter() - start < WARM_UP_SECONDS:
            self._workload.step()
            steps += 1
        self._repetitions = 1 + int(SAMPLE_SECONDS / ((time.perf_counter() - start) / steps))
        self._repetitions = 1 + int(SAMPLE_SECONDS / self.sample().seconds)
        return (self._repetitions + self._warm_up_steps) * self.sample().seconds

    @property
    def _warm_up_steps(self) -> int:
        return 1 + self._repetitions // 4

    def sample(self) -> Sample:
        """Time one sample.

        A quarter as many steps run untimed first: another provider had the caches and the cores
        before, and the threads of this one have to wake up.
        """
        assert self._workload is not None
        step = self._workload.step
        for _ in range(self._warm_up_steps):
            step()
        repetitions = range(self._repetitions)
        waited_before = waited_seconds()
        start = time.perf_counter()
        for _ in repetitions:
            step()
        elapsed = time.perf_counter() - start
        waited = (waited_seconds() - waited_before) / elapsed
        return Sample(elapsed / self._repetitions, waited)

    def memory(self, cell: Cell) -> int:
        """Bytes that a cell costs at its peak; only a process that did nothing else can tell.

        Counted are the input, the parameters and a few steps, with what the library builds for
        them in the first one. The benchmark's own copy of the arrays is gone by then. What every
        use of the library costs, thread pools and its own code, a tiny cell brings in before.
        """
        tiny = replace(cell, sizes=TINY_SIZES, batch=4)
        self._provider.build(tiny, make_inputs(tiny)).step()
        gc.collect()
        before = resident_bytes()
        self._workload = self._provider.build(cell, make_inputs(cell))
        gc.collect()
        reset_peak()
        for _ in range(MEMORY_STEPS):
            self._workload.step()
        return peak_bytes() - before


def die_with_parent() -> None:
    """Ask Linux to kill this process with its coordinator, even while it is stopped."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    """Run ``python -m benchmarks.worker PROVIDER CHANNEL`` until the channel closes.

    It was started on the cores of the measurement and uses a thread on each.
    """
    name, channel = sys.argv[1:]
    die_with_parent()
    connection = Connection(int(channel))
    provider = find_provider(name)
    provider.setup(len(os.sched_getaffinity(0)))
    seat = Seat(provider)
    gc.freeze()  # the imports stay; leaves little to collect between cells
    gc.disable()  # `load` collects, never a timed step
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, getattr(seat, command)(*arguments)))
        except Exception:
            connection.send((False, traceback.format_exc()))


if __name__ == "__main__":
    main()
