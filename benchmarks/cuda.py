"""Times networks on a CUDA device: ``make bench-cuda``; prints NOT RUN without one.

Providers: stock PyTorch, torch.compile with CUDA graphs, pyfastnn as it is and in a CUDA graph, and
tiny-cuda-nn where it is installed (its networks have no bias, float16 only, and hidden layers of
one width out of four; its times are for such a network of the same sizes).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pyfastnn
from benchmarks.shapes import CUDA_BATCHES, CUDA_NETS
from pyfastnn import functional

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
ROUNDS, STEPS = 15, 20


class Case(NamedTuple):
    """One network on one batch; a training pass ends with all gradients of the parameters."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    dtype: torch.dtype
    trains: bool


def plain(case: Case) -> nn.Sequential:
    """Build the network as a user of PyTorch does, the same weights every time."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for k, n in pairwise(case.sizes):
        layers += [nn.Linear(k, n, device="cuda", dtype=case.dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fused(case: Case) -> nn.Module:
    """Build the same network as our module."""
    model = pyfastnn.MLP(case.sizes, device="cuda", dtype=case.dtype)
    model.load_state_dict(plain(case).state_dict())
    return model


def compiled(case: Case) -> nn.Module:
    """Build the same network, compiled, with CUDA graphs."""
    torch.compiler.reset()  # a second batch in one process would be compiled for any batch
    return torch.compile(plain(case), mode="reduce-overhead")  # type: ignore[return-value]


def tiny(case: Case) -> nn.Module | None:
    """Build tiny-cuda-nn's network of these sizes; None if it has none or is not installed."""
    try:
        import tinycudann
    except ImportError:
        return None
    hidden = set(case.sizes[1:-1])
    if case.dtype != torch.float16 or len(hidden) != 1 or not hidden <= {16, 32, 64, 128}:
        return None
    network = {
        "otype": "FullyFusedMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": hidden.pop(),
        "n_hidden_layers": len(case.sizes) - 2,
    }
    return tinycudann.Network(case.sizes[0], case.sizes[-1], network)  # type: ignore[no-any-return]


Step = Callable[[], Tensor]


def step_of(model: nn.Module, case: Case, x: Tensor) -> Step:
    """Return one pass over a batch; its result is the output."""

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)  # type: ignore[no-any-return]

    def train() -> Tensor:
        for parameter in model.parameters():
            parameter.grad = None
        y: Tensor = model(x)
        y.backward(torch.ones_like(y))
        return y.detach()

    return train if case.trains else forward


def captured(step: Step) -> Step:
    """Return a step that replays a CUDA graph of another."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def steps(case: Case, x: Tensor) -> Iterator[tuple[str, Step]]:
    """Yield every provider that can do the case."""
    yield "PyTorch", step_of(plain(case), case, x)
    yield "torch.compile", step_of(compiled(case), case, x)
    yield "pyfastnn", step_of(fused(case), case, x)
    yield "pyfastnn, graph", captured(step_of(fused(case), case, x))
    if (model := tiny(case)) is not None:
        yield "tiny-cuda-nn", step_of(model, case, x)


def seconds(step: Step) -> float:
    """Time a step on the device: the mean of a few in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(STEPS):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / STEPS


def check(name: str, got: Tensor, want: Tensor) -> None:
    """Stop if a provider that computes the same network has another result."""
    if name != "tiny-cuda-nn":
        tolerance = 1e-3 if want.dtype == torch.float32 else 0.05
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def measure(case: Case) -> dict[str, float]:
    """Time all providers in turns, so that a change of clocks meets all of them."""
    x = torch.randn(case.batch, case.sizes[0], device="cuda", dtype=case.dtype)
    ready = dict(steps(case, x))
    want = ready["PyTorch"]()
    for name, step in ready.items():
        for _ in range(5):
            got = step()
        check(name, got, want)
    rounds = [{name: seconds(step) for name, step in ready.items()} for _ in range(ROUNDS)]
    return {name: median(times[name] for times in rounds) for name in ready}


def cases(dtypes: list[str], quick: bool) -> list[Case]:
    """List the cases in measuring order."""
    return [
        Case(name, sizes, batch, DTYPES[dtype], trains)
        for dtype in dtypes
        for trains in (False, True)
        for name, sizes in (CUDA_NETS[:2] if quick else CUDA_NETS)
        for batch in (CUDA_BATCHES[:2] if quick else CUDA_BATCHES)
    ]


def reason_not_to_run() -> str | None:
    """Say what is missing."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    return None if functional.CUDA_IS_BUILT else "pyfastnn was built without CUDA"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--quick", action="store_true", help="two networks, two batches")
    parser.add_argument("--csv", type=Path, default=Path("out/cuda.csv"))
    options = parser.parse_args(argv)
    if reason := reason_not_to_run():
        print(f"NOT RUN: {reason}; nothing was measured")
        return 0
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["device", "network", "batch", "dtype", "pass", "provider", "microseconds"])
        for case in cases(options.dtype, options.quick):
            dtype = str(case.dtype).removeprefix("torch.")
            what = "forward, backward" if case.trains else "forward"
            line = [torch.cuda.get_device_name(), case.name, case.batch, dtype, what]
            times = {name: 1e6 * time for name, time in measure(case).items()}
            table.writerows([*line, name, f"{time:.2f}"] for name, time in times.items())
            told = "  ".join(f"{name} {time:.1f}" for name, time in times.items())
            print(f"{case.name}, {case.batch} rows, {dtype}, {what}, us: {told}", flush=True)
    print(f"written to {options.csv}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
