"""A chain of linear layers with ReLUs between them, called as one operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

from pyfastnn import functional
from pyfastnn.modules import LinearReLU

_PLAIN = (Tensor, nn.Parameter)
_LINEARS = (nn.Linear, LinearReLU)
RELU = "relu"  # a ReLU that is a function or a method, not a module
Part = nn.Module | str


class Chain:
    """``relu(... relu(input @ W_0.T + b_0) ... @ W_L.T + b_L)``, with or without the last ReLU.

    Args:
        names: of the parts, for people.
        parts: the modules in the order of their calls, RELU where a function is called. Modules
            other than linear layers and ReLUs do nothing (dropout in evaluation, identity).
    """

    def __init__(self, names: Sequence[str], parts: Sequence[Part]) -> None:
        self.names = tuple(names)
        self.parts = tuple(parts)
        self.linears = tuple(part for part in parts if isinstance(part, nn.Linear))
        self._others = tuple(
            part for part in parts if isinstance(part, nn.Module) and part not in self.linears
        )
        acting = [part for part in parts if not does_nothing(part)]
        self._activate_last = not is_plain_linear(acting[-1])
        self.__name__ = "chain"  # torch.fx asks functions for it

    def __call__(self, input: Tensor) -> Tensor:
        """Run fused, or part by part if something asks for it; see :meth:`reason`."""
        if _is_known(input) and (input.is_cpu or (functional.CUDA_IS_BUILT and input.is_cuda)):
            arguments = _arguments(self.linears, self._others)
            if arguments is not None:
                try:
                    return functional.mlp(input, *arguments, self._activate_last)
                except torch.AcceleratorError:
                    raise  # plain layers would hide that our kernels cannot run here
                except RuntimeError:
                    pass  # a layout that only the layers take, or an error that they put better
        return self._run_parts(input)

    def reason(self) -> str | None:
        """Say why the next call would run part by part; None if it would run fused."""
        if _arguments(self.linears, self._others) is not None:
            return lacks_kernels(self.linears[0])
        for name, part in zip(self.names, self.parts, strict=True):
            if isinstance(part, nn.Module) and (why := why_not(part)):
                return f"{name} {why}"
        return "a hook is registered for all modules"

    def _run_parts(self, input: Tensor) -> Tensor:
        for part in self.parts:
            input = torch.relu(input) if isinstance(part, str) else part(input)
        return input


def lacks_kernels(linear: nn.Linear) -> str | None:
    """Say why there are no fused kernels where a layer is; None if there are."""
    is_without = linear.weight.is_cuda and not functional.CUDA_IS_BUILT
    return f"it {functional.WITHOUT_CUDA}" if is_without else None


def is_plain_linear(part: Part) -> bool:
    """Say whether a part is a linear layer without a ReLU of its own."""
    return type(part) is nn.Linear


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is a linear layer of any kind, fusible or not."""
    return isinstance(module, nn.Linear) or type(module).__name__.endswith("Linear")


def does_nothing(part: Part) -> bool:
    """Say whether a part of a chain returns its input."""
    return isinstance(part, (nn.Identity, nn.Dropout))


def why_not(module: nn.Module) -> str | None:
    """Say what about a linear layer, ReLU or dropout keeps it out of a fused call, if anything."""
    state = module.__dict__
    if is_linear(module) and type(module) not in _LINEARS:
        cls = type(module)
        name = f"{cls.__module__}.Linear" if cls.__name__ == "Linear" else cls.__name__
        return f"is a {name}, not a Linear"
    if _is_watched(state):
        return "has a hook"
    if "forward" in state:
        return "has a forward of its own"
    if isinstance(module, nn.Linear):
        if not {"weight", "bias"} <= state["_parameters"].keys():
            return "computes its parameters"
        if not (_is_known(module.weight) and (module.bias is None or _is_known(module.bias))):
            return f"has a {type(module.weight).__name__} as weight"
    return None


def _is_known(tensor: object) -> bool:
    """Say whether a tensor is plain, or a DTensor, for which the operators have rules."""
    cls = type(tensor)
    return cls in _PLAIN or cls.__module__.startswith("torch.distributed.tensor")


def _is_watched(state: dict[str, object]) -> bool:
    return bool(
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
    )


def _arguments(
    linears: Sequence[nn.Linear], others: Sequence[nn.Module]
) -> tuple[list[Tensor], list[Tensor | None]] | None:
    """Collect weights and biases, anew at every call; None if the parts must run one by one."""
    if (
        _module._global_forward_hooks
        or _module._global_forward_pre_hooks
        or _module._global_backward_hooks
        or _module._global_backward_pre_hooks
    ):
        return None
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for linear in linears:
        state = linear.__dict__
        if "forward" in state or _is_watched(state) or type(linear) not in _LINEARS:
            return None
        parameters = state["_parameters"]
        weight, bias = parameters.get("weight"), parameters.get("bias", weights)
        if not _is_known(weight) or not (bias is None or _is_known(bias)):
            return None  # computed, or of a subclass that may have a linear of its own
        weights.append(weight)
        biases.append(bias)
    for other in others:
        state = other.__dict__
        if "forward" in state or _is_watched(state):
            return None
    return weights, biases
