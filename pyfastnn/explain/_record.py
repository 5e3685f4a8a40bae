"""Watches a model run: every linear layer and every ReLU, whatever the forward looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ops = torch.ops.pyfastnn


@dataclass
class Call:
    """One call of a layer: what went through it, and in the backward what came back.

    ``gradient_in`` comes from the loss (norm of the gradient of the output), ``gradient_out`` goes
    on to the input; None where autograd does not go.
    """

    name: str
    kind: str
    in_features: int
    out_features: int
    rows: int = 0
    value_rms: float = 0.0
    zero_share: float = 0.0
    active: Tensor | None = None
    dead_share: float | None = None
    weight: Tensor | None = None
    weight_gradient: Tensor | None = None
    gradient_in: float | None = None
    gradient_out: float | None = None
    output: Tensor | None = None

    def watch(self, tensor: Tensor, side: str) -> None:
        """Take the norm of a tensor's gradient when the backward comes to it."""
        if tensor.requires_grad:
            setattr(self, side, 0.0)  # stays so if the loss does not depend on the tensor
            _on_gradient(tensor, lambda gradient: setattr(self, side, norm(gradient)))

    def see(self, output: Tensor) -> None:
        """Look at the output and watch its gradient."""
        self.watch(output, "gradient_in")
        values = output.detach()
        count = max(values.numel(), 1)
        self.rows = values.numel() // max(self.out_features, 1)
        self.value_rms = norm(values) / count**0.5
        self.zero_share = int((values == 0).sum()) / count
        if self.kind == "ReLU":
            self.active = ~(values <= 0)


class Recorder(TorchFunctionMode):
    """While it is entered, notes every linear layer and every ReLU that runs.

    Functions are watched, not modules, so a forward written by hand is no different from an
    ``nn.Sequential``. A fused operator is run layer by layer by its own kernels, with the ReLU
    apart: the bits are the same, and what is between the two can be seen.

    Args:
        model: whose parameters give the layers their names; it gets hooks where a layer computes
            its weight, so it must be a copy.
        keep: keep a copy of every output.
    """

    def __init__(self, model: nn.Module, keep: bool = False) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.is_recording = True
        self._keep = keep
        self._names = _names_of_weights(model)
        self._uses: dict[str, int] = {}
        self._entered: str | None = None  # the module that computes its weight, if one does
        for path, module in model.named_modules():
            if isinstance(module, nn.Linear) and "weight" not in module._parameters:
                module.register_forward_pre_hook(self._namer(path))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch; if it is a layer, watch it."""
        run = _WATCHED.get(func)
        if run is None or not all(isinstance(arg, Tensor) for arg in args[:1]):
            return func(*args, **(kwargs or {}))
        return run(self, func, *args, **(kwargs or {}))

    def linear(
        self, func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Run and note ``torch.nn.functional.linear``, or a fused layer without its ReLU."""
        if not self.is_recording or weight.dim() != 2:
            return func(input, weight, bias)
        out_features, in_features = weight.shape
        name = self._names.get(id(weight), self._entered)
        call = self._note(name, "Linear", in_features, out_features)
        call.weight = weight
        if weight.requires_grad and not weight.is_leaf:  # computed, by pruning for example
            _on_gradient(weight, lambda gradient: setattr(call, "weight_gradient", gradient))
        source = input.view_as(input)  # its gradient is only what comes through this layer
        call.watch(source, "gradient_out")
        return self._seen(call, func(source, weight, bias))

    def relu(self, func: Callable[..., Tensor], input: Tensor, inplace: bool = False) -> Tensor:
        """Run and note a ReLU."""
        options = {"inplace": inplace} if func is F.relu else {}
        if not self.is_recording:
            return func(input, **options)
        features = input.shape[-1] if input.dim() else 1
        linear = next((call for call in reversed(self.calls) if call.kind == "Linear"), None)
        belongs = linear is not None and linear.out_features == features
        name = f"relu({linear.name})" if linear and belongs else None
        call = self._note(name, "ReLU", features, features)
        changes_input = inplace or func in (torch.relu_, Tensor.relu_)
        source = input if changes_input else input.view_as(input)
        call.watch(source, "gradient_out")
        output = self._seen(call, func(source, **options))
        if belongs and call.active is not None and call.rows:
            ever = call.active.reshape(-1, features).any(0)
            call.dead_share = int((~ever).sum()) / max(features, 1)
        return output

    def fused(
        self,
        func: Callable[..., Tensor],
        input: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        activate_last: bool = False,
    ) -> Tensor:
        """Run and note a fused network."""
        if not weights or len(weights) != len(biases):
            return func(input, weights, biases, activate_last)  # it says what is wrong
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            input = self.linear(_one_layer, input, weight, bias)
            if activate_last or index < len(weights) - 1:
                input = self.relu(torch.relu, input)
        return input

    def fused_layer(
        self, func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Run and note a fused layer with its ReLU."""
        return self.fused(func, input, [weight], [bias], True)

    def _note(self, name: str | None, kind: str, in_features: int, out_features: int) -> Call:
        name = name or f"{kind.lower()}[{len(self.calls)}]"
        use = self._uses[name] = self._uses.get(name, 0) + 1
        self.calls.append(
            Call(name if use == 1 else f"{name}#{use}", kind, in_features, out_features)
        )
        return self.calls[-1]

    def _seen(self, call: Call, output: Tensor) -> Tensor:
        call.see(output)
        if self._keep:
            call.output = output.detach().clone()  # a ReLU in place may come
        return output

    def _namer(self, path: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: setattr(self, "_entered", path)


def norm(tensor: Tensor) -> float:
    """Return the Euclidean norm of all elements, summed in float64."""
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))


def _on_gradient(tensor: Tensor, do: Callable[[Tensor], None]) -> None:
    tensor.register_hook(do)  # type: ignore[no-untyped-call]


def _names_of_weights(model: nn.Module) -> dict[int, str]:
    names = {}
    for path, parameter in model.named_parameters():
        name = "model" if path == "weight" else path.removesuffix(".weight")
        names[id(parameter)] = name
    return names


def _one_layer(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _ops.mlp.default(input, [weight], [bias])  # type: ignore[no-any-return]


_WATCHED: dict[Any, Callable[..., Tensor]] = {
    F.linear: Recorder.linear,
    F.relu: Recorder.relu,
    torch.relu: Recorder.relu,
    torch.relu_: Recorder.relu,
    Tensor.relu: Recorder.relu,
    Tensor.relu_: Recorder.relu,
    _ops.mlp: Recorder.fused,
    _ops.mlp.default: Recorder.fused,
    _ops.linear_relu: Recorder.fused_layer,
    _ops.linear_relu.default: Recorder.fused_layer,
}
