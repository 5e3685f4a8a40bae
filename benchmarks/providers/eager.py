"""Stock PyTorch in eager mode, and the same PyTorch with its BLAS told to use AVX-512 on AMD."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.machine import compile_here, cpu_flags
from benchmarks.providers import Provider, Workload
from benchmarks.providers.capture import caught_output
from benchmarks.shapes import Cell


class Torch(Provider):
    """``F.relu(F.linear(...))`` and ``nn.Sequential``; a torch front end replaces those two."""

    def setup(self, threads: int) -> None:
        """Import torch and set its intra-op threads."""
        import torch

        torch.set_num_threads(threads)

    def describe(self) -> dict[str, str]:
        """Versions, and the processor MKL believes it is on: its name for the kernels it chose."""
        import torch

        blas = mkl_processor()
        isa = "blas avx512" if "AVX-512" in blas else "blas default"
        return {"version": torch.__version__, "isa": isa, "mkl": blas}

    def layer(self) -> Callable[[Any, Any, Any], Any]:
        """The layer under measurement, a function of input, weight and bias."""
        import torch.nn.functional as F

        return lambda x, weight, bias: F.relu(F.linear(x, weight, bias))

    def network(self, sizes: Sequence[int], dtype: Any) -> Any:
        """The network under measurement, a module whose parameters are weight, bias by layer."""
        from torch import nn

        linears = [nn.Linear(k, n, dtype=dtype) for k, n in pairwise(sizes)]
        layers = chain.from_iterable((linear, nn.ReLU()) for linear in linears)
        return nn.Sequential(*list(layers)[:-1])

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The form in which a network, or a network and its loss, is called; a compiler's hook."""
        return function

    def optimizer(self, parameters: Iterable[Any]) -> Any:
        """Plain SGD."""
        import torch

        return torch.optim.SGD(parameters, lr=LEARNING_RATE)

    def build(self, cell: Cell, inputs: Arrays) -> Workload:
        """See `Provider.build`."""
        import torch

        dtype = getattr(torch, cell.dtype)
        tensors = {
            name: torch.from_numpy(values).to(torch.int64 if name == "target" else dtype)
            for name, values in inputs.items()
        }
        build = {
            "fprop": self._fprop,
            "fprop_backward": self._fprop_backward,
            "forward": self._forward,
            "train_step": self._train_step,
        }[cell.mode]
        # Set once for the process, so that entering no_grad is not part of what is timed.
        torch.set_grad_enabled(cell.mode in ("fprop_backward", "train_step"))
        return build(cell, tensors)

    def _fprop(self, cell: Cell, tensors: dict[str, Any]) -> Workload:
        x, weight, bias = (tensors[name] for name in ("input", "weight.0", "bias.0"))
        linear_relu = self.layer()

        def step() -> Any:
            return linear_relu(x, weight, bias)

        return Workload(step, lambda: {"output": to_numpy(step())})

    def _fprop_backward(self, cell: Cell, tensors: dict[str, Any]) -> Workload:
        import torch

        leaves = [tensors[name].requires_grad_() for name in ("input", "weight.0", "bias.0")]
        x, weight, bias = leaves
        grad_output = tensors["grad_output"]
        linear_relu = self.layer()

        def step() -> Any:
            output = linear_relu(x, weight, bias)
            return output, torch.autograd.grad(output, leaves, grad_output)

        def results() -> Arrays:
            output, grads = step()
            names = ("grad_input", "grad_weight", "grad_bias")
            arrays = {name: to_numpy(grad) for name, grad in zip(names, grads, strict=True)}
            return {"output": to_numpy(output), **arrays}

        return Workload(step, results)

    def _forward(self, cell: Cell, tensors: dict[str, Any]) -> Workload:
        x, model = tensors["input"], self.compiled(self._filled_network(cell, tensors))

        def step() -> Any:
            return model(x)

        return Workload(step, lambda: {"output": to_numpy(step())})

    def _train_step(self, cell: Cell, tensors: dict[str, Any]) -> Workload:
        import torch

        x, target = tensors["input"], tensors["target"]
        model = self._filled_network(cell, tensors)
        loss_fn = torch.nn.CrossEntropyLoss()
        optimizer = self.optimizer(model.parameters())
        loss_of = self.compiled(lambda x, target: loss_fn(model(x), target))

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x, target)
            loss.backward()
            optimizer.step()
            return loss

        def results() -> Arrays:
            arrays = {"loss": to_numpy(step())}
            for i, parameter in enumerate(model.parameters()):
                name = f"{('weight', 'bias')[i % 2]}.{i // 2}"
                arrays[name] = to_numpy(parameter)
                arrays[f"grad_{name}"] = to_numpy(parameter.grad)
            return arrays

        return Workload(step, results)

    def _filled_network(self, cell: Cell, tensors: dict[str, Any]) -> Any:
        import torch

        model = self.network(cell.sizes, getattr(torch, cell.dtype))
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(tensors[f"{('weight', 'bias')[i % 2]}.{i // 2}"])
        return model


class TorchAvx512(Torch):
    """Stock PyTorch with MKL told that it may use AVX-512 on a processor that is not Intel's.

    The strongest that PyTorch's own float32 products get on AMD. bfloat16 goes through oneDNN,
    which uses AVX-512 everywhere, so both torch providers should measure the same there.
    """

    def environment(self, build_dir: Path, threads: int) -> dict[str, str]:
        """Build the preloaded library: MKL decides while loading, so it needs its own process."""
        library = build_dir / "mkl_avx512_on_amd.so"
        if not library.exists():
            compile_here("mkl_avx512_on_amd.c", library, "-shared", "-fPIC", "-O2")
        return {"LD_PRELOAD": str(library)}

    def describe(self) -> dict[str, str]:
        """As `Torch.describe`.

        Raises:
            RuntimeError: if the processor has AVX-512 and MKL still does not use it.
        """
        found = super().describe()
        if "avx512f" in cpu_flags() and found["isa"] != "blas avx512":
            raise RuntimeError(
                f"torch_avx512: expected MKL to use AVX-512, it says {found['mkl']!r}"
            )
        return found


def to_numpy(tensor: Any) -> Any:
    """Copy a tensor of any dtype to a float32 array, which holds bfloat16 exactly."""
    return tensor.detach().float().numpy().copy()


def mkl_processor() -> str:
    """The processor MKL chose its kernels for, from its own verbose line; empty without MKL."""
    import torch

    if not torch.backends.mkl.is_available():
        return ""
    with (
        caught_output(1) as texts,
        torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON),
    ):
        torch.ones(64, 64) @ torch.ones(64, 64)
    match = re.search(r"for Intel\(R\) 64 architecture (.*?), Lnx", texts[0])
    return match[1] if match else ""
