"""Microseconds of a call that hardly computes: 16-16 and 16-16-16-16, one row, one thread.

``python -m benchmarks.overhead`` prints a table. The two of a comparison take turns of 50 calls,
400 times; a figure is the least time of a turn, and a ratio is that of the two least times: an
interruption of a few microseconds is as long as what is measured, and the median turn of a busy
machine has some.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pyfastnn
from benchmarks.machine import commit, cpu_model

CALLS, ROUNDS = 50, 400
SIZES = [16, 16, 16, 16]
Call = Callable[[], object]


class ByHand(nn.Module):
    """Three layers with a forward written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (nn.Linear(k, n) for k, n in pairwise(SIZES))

    def forward(self, x: Tensor) -> Tensor:
        """Apply them."""
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))  # type: ignore[no-any-return]


def sequential() -> nn.Sequential:
    """Three layers as an ``nn.Sequential``."""
    return pyfastnn.unfuse(pyfastnn.MLP(SIZES))


class Subject(NamedTuple):
    """A call, what it is compared with, and the parameters of both."""

    ours: Call
    theirs: Call
    parameters: tuple[list[Tensor], list[Tensor]]


def subjects() -> dict[str, Subject]:
    """Return what is measured, by name."""
    x, layer = torch.randn(1, 16), nn.Linear(16, 16)
    weight, bias = layer.weight, layer.bias
    found = {
        "functional.linear_relu / F.relu(F.linear)": Subject(
            lambda: pyfastnn.functional.linear_relu(x, weight, bias),
            lambda: F.relu(F.linear(x, weight, bias)),
            ([weight, bias], [weight, bias]),
        )
    }

    def modules(name: str, ours: nn.Module, theirs: nn.Module) -> None:
        parameters: tuple[list[Tensor], list[Tensor]] = (
            list(ours.parameters()),
            list(theirs.parameters()),
        )
        found[name] = Subject(lambda: ours(x), lambda: theirs(x), parameters)

    modules("LinearReLU / Sequential", pyfastnn.LinearReLU(16, 16), nn.Sequential(layer, nn.ReLU()))
    net = sequential()
    weights, biases = [m.weight for m in net[::2]], [m.bias for m in net[::2]]

    def eager() -> Tensor:
        h = x
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            h = F.relu(F.linear(h, weight, bias))
        return F.linear(h, weights[-1], biases[-1])

    found["functional.mlp, 3 layers / F.relu(F.linear)"] = Subject(
        lambda: pyfastnn.functional.mlp(x, weights, biases),
        eager,
        ([*net.parameters()], [*net.parameters()]),
    )
    modules("MLP, 3 layers / Sequential", pyfastnn.MLP(SIZES), sequential())
    modules("fuse(Sequential), 3 layers / itself unfused", pyfastnn.fuse(net), net)
    by_hand = ByHand()
    modules("fuse(written by hand), 3 layers / itself unfused", pyfastnn.fuse(by_hand), by_hand)
    return found


def with_backward(call: Call, parameters: list[Tensor]) -> Call:
    """Return a call that also makes the gradients of all parameters, and drops them."""
    grad = torch.randn(1, 16)

    def both() -> None:
        call().backward(grad)  # type: ignore[attr-defined]
        for parameter in parameters:
            parameter.grad = None

    return both


def measure(ours: Call, theirs: Call, rounds: int) -> tuple[float, float]:
    """Return the least microseconds of both."""
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for index, call in enumerate((ours, theirs)):
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            least[index] = min(least[index], (time.perf_counter() - start) / CALLS * 1e6)
    return least[0], least[1]


def main() -> None:
    """Measure everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    gc.disable()  # a collection in one turn and not in the next would be noise
    print(f"{cpu_model()}, torch {torch.__version__}, {pyfastnn.active_isa()}, commit {commit()}\n")
    print("| us a call: ours / eager | no_grad | forward with grad | forward + backward |")
    print("| --- | --- | --- | --- |")
    for name, (ours, theirs, parameters) in subjects().items():
        cells = []
        with torch.no_grad():
            cells.append(measure(ours, theirs, rounds))
        cells.append(measure(ours, theirs, rounds))
        trained = with_backward(ours, parameters[0]), with_backward(theirs, parameters[1])
        cells.append(measure(*trained, rounds))
        row = [f"{a:.2f} / {b:.2f} = **{a / b:.2f}**" for a, b in cells]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
