"""Providers in plain numpy for test_bench*.py: a right one, and some with one thing wrong.

In a module of their own because worker processes import them, and should do so fast.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.limits import Limits
from benchmarks.providers import Provider, Workload
from benchmarks.shapes import Cell

LIMITS_OF_A_FAKE = Limits(
    peaks={"float32": ("avx2", 100.0), "bfloat16": ("avx2", 100.0)},
    bandwidths={"read": 10.0, "update": 20.0},
    cache_bytes=2**20,
)


class Numpy(Provider):
    """A provider that computes every workload in plain numpy; subclasses get one thing wrong."""

    def setup(self, threads: int) -> None:
        pass

    def describe(self) -> dict[str, str]:
        return {"version": np.__version__, "isa": "numpy"}

    def activate(self, z: np.ndarray) -> np.ndarray:
        return np.maximum(z, 0)

    def mask(self, y: np.ndarray) -> np.ndarray:
        return y > 0

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        run = self.layer if cell.is_layer else self.network
        return Workload(lambda: run(cell, inputs), lambda: run(cell, inputs))

    def layer(self, cell: Cell, inputs: Arrays) -> Arrays:
        x, w = inputs["input"], inputs["weight.0"]
        y = self.activate(x @ w.T + inputs["bias.0"])
        if cell.mode == "fprop":
            return {"output": y}
        dz = inputs["grad_output"] * self.mask(y)
        grads = {"grad_input": dz @ w, "grad_weight": dz.T @ x, "grad_bias": dz.sum(axis=0)}
        return {"output": y} | grads

    def network(self, cell: Cell, inputs: Arrays) -> Arrays:
        depth = len(cell.sizes) - 1
        values = [inputs["input"]]
        for i in range(depth):
            z = values[-1] @ inputs[f"weight.{i}"].T + inputs[f"bias.{i}"]
            values.append(self.activate(z) if i < depth - 1 else z)
        if cell.mode == "forward":
            return {"output": values[-1]}
        rows, target = np.arange(cell.batch), inputs["target"]
        probability = np.exp(values[-1])
        probability /= probability.sum(axis=1, keepdims=True)
        results = {"loss": -np.log(probability[rows, target]).mean()}
        dz = probability
        dz[rows, target] -= 1
        dz /= cell.batch
        for i in reversed(range(depth)):
            grads = {f"weight.{i}": dz.T @ values[i], f"bias.{i}": dz.sum(axis=0)}
            for name, grad in grads.items():
                results[name] = inputs[name] - LEARNING_RATE * grad
            dz = (dz @ inputs[f"weight.{i}"]) * self.mask(values[i])
        return results


class NoRelu(Numpy):
    def activate(self, z: np.ndarray) -> np.ndarray:
        return z


class NoMask(Numpy):
    def mask(self, y: np.ndarray) -> np.ndarray:
        return np.ones_like(y)


class LostRow(Numpy):
    """Forgets the last row of the batch where it sums over it."""

    def layer(self, cell: Cell, inputs: Arrays) -> Arrays:
        results = super().layer(cell, inputs)
        dz = inputs["grad_output"] * (results["output"] > 0)
        return results | {"grad_weight": dz[:-1].T @ inputs["input"][:-1]}


class NanInOutput(Numpy):
    def layer(self, cell: Cell, inputs: Arrays) -> Arrays:
        results = super().layer(cell, inputs)
        results["output"][0, 0] = np.nan
        return results


class Raising(Numpy):
    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        raise NotImplementedError("no such layer here")


class Slower(Numpy):
    """Right, but does everything ten times."""

    def layer(self, cell: Cell, inputs: Arrays) -> Arrays:
        for _ in range(9):
            super().layer(cell, inputs)
        return super().layer(cell, inputs)


class OnlyTraining(Numpy):
    def supports(self, cell: Cell) -> bool:
        return cell.mode == "train_step"


class Elsewhere(Numpy):
    """Runs with the interpreter that a variable names."""

    def interpreter(self) -> Path:
        return Path(os.environ["BENCH_FAKES_PYTHON"])

    def describe(self) -> dict[str, str]:
        threads = str(len(os.sched_getaffinity(0)))
        return {"version": sys.executable, "isa": os.environ["FAKE_THREADS"], "cores": threads}

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        return {"FAKE_THREADS": str(threads)}


class Hungry(OnlyTraining):
    """Touches 64 MB in a step and lets go of them."""

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        workload = super().build(cell, inputs)

        def step() -> object:
            np.ones(8_000_000).sum()
            return workload.step()

        return Workload(step, workload.results)
