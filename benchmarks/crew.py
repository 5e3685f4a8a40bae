"""The coordinator's side: one process per provider, taking turns on the same cores.

Only one worker runs at a time; the others are stopped by signal, because an idle thread pool may
spin for milliseconds on the core that the next one is timed on. Every round visits all workers in
a new random order, so that drift of the machine hits all alike.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from benchmarks.inputs import make_inputs
from benchmarks.providers import find_provider
from benchmarks.reference import Reference
from benchmarks.sample import Sample
from benchmarks.shapes import Cell

ROOT = Path(__file__).resolve().parent.parent

# Settings of the caller's shell that would tune or cripple one library and not the others.
TUNING = (
    *("ATEN_", "DNNL_", "GOMP_", "JAX_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("OPENVINO_", "TF_", "TORCH_", "TORCHINDUCTOR_", "XLA_"),
)

Round = dict[str, Sample]  # by provider


class WorkerError(RuntimeError):
    """A worker failed or died; the message carries its traceback."""


class Worker:
    """One provider in its own process, stopped except while it answers.

    Args:
        name: provider name.
        cores: the cores it is pinned to; it uses as many threads.
        build_dir: where the provider may build what it preloads.
        extra_environment: variables set on top, e.g. ``PYFASTNN_ISA``.
    """

    def __init__(
        self,
        name: str,
        cores: Sequence[int],
        build_dir: Path,
        extra_environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._provider = find_provider(name)
        interpreter = self._provider.interpreter()
        if not interpreter.exists():
            raise WorkerError(
                f"{name}: expected the interpreter {interpreter}, found none; "
                f"`make bench-peers` makes it"
            )
        environment = {k: v for k, v in os.environ.items() if not k.startswith(TUNING)}
        search_path = (str(ROOT), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
        environment |= self._provider.environment(build_dir, len(cores))
        environment |= extra_environment or {}
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [str(interpreter), "-m", "benchmarks.worker", name, str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdout=2,  # what libraries print must not mix with the tables
            # Before anything is imported: some libraries count the cores and start threads then.
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def supports(self, cell: Cell) -> bool:
        """See `Provider.supports`."""
        return self._provider.supports(cell)

    def ask(self, command: str, *arguments: Any) -> Any:
        """Let the worker run one command of `worker.Seat` and stop it again.

        Raises:
            WorkerError: if the command raised or the process died.
        """
        self._process.send_signal(signal.SIGCONT)
        try:
            self._connection.send((command, arguments))
            succeeded, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            raise WorkerError(f"{self.name}: worker ended with code {code}") from error
        self._process.send_signal(signal.SIGSTOP)
        if not succeeded:
            raise WorkerError(f"{self.name}: {command} failed in the worker:\n{answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Crew:
    """All providers of a comparison, ready to run the same cell in turns.

    Args:
        names: providers, each in its own process.
        cores: the cores all of them are pinned to, one thread each.
        build_dir: for what providers build before they start.
        environments: extra variables by provider name.
    """

    def __init__(
        self,
        names: Sequence[str],
        cores: Sequence[int],
        build_dir: Path,
        environments: dict[str, dict[str, str]],
    ) -> None:
        self._order = random.Random(0)
        self._start = lambda name: Worker(name, cores, build_dir, environments.get(name))
        self.workers: list[Worker] = []
        self._active: list[Worker] = []  # those that support the cell that is loaded
        try:
            for name in names:
                self.workers.append(self._start(name))
            self.described = {worker.name: worker.ask("describe") for worker in self.workers}
        except BaseException:
            self.close()
            raise

    def load(self, cell: Cell) -> float:
        """Give a cell to all who support it, check what they compute, and choose sample lengths.

        Returns:
            Seconds that one round will take.

        Raises:
            WrongResultError: if a provider computes something else than the reference.
            WorkerError: if a provider fails.
        """
        inputs = make_inputs(cell)
        reference = Reference(cell, inputs)
        self._active = [worker for worker in self.workers if worker.supports(cell)]
        for worker in self._active:
            reference.check(worker.ask("load", cell, inputs), worker.name)
        return sum(worker.ask("calibrate") for worker in self._active)

    def round(self) -> Round:
        """A sample of every provider of the cell, taken one after the other in random order."""
        order = self._order.sample(self._active, len(self._active))
        return {worker.name: worker.ask("sample") for worker in order}

    def memory(self, cell: Cell) -> dict[str, int]:
        """Peak of the bytes that a cell costs, by provider, each in a process of its own."""
        peaks = {}
        for worker in self.workers:
            if worker.supports(cell):
                with contextlib.closing(self._start(worker.name)) as fresh:
                    peaks[fresh.name] = fresh.ask("memory", cell)
        return peaks

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()
        self.workers = []
