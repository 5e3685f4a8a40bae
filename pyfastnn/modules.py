"""Drop-in modules: parameters, names, initialisation and state_dict are those of PyTorch's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, NoReturn, overload

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

from pyfastnn import functional
from pyfastnn._sparse import CsrMatrix


def _refuse_scripting(module: nn.Module) -> NoReturn:
    """Raise before torch.jit.script, which calls this, fails in the middle of our source."""
    raise RuntimeError(
        f"torch.jit.script cannot compile {type(module).__name__}: use torch.export or "
        "torch.jit.trace, or script plain modules (for an MLP: torch.jit.script(model[:]))"
    )


class LinearReLU(nn.Linear):
    """Linear layer and ReLU in one module: ``relu(input @ weight.T + bias)``.

    A subclass of ``torch.nn.Linear``: same arguments, same initialisation from the same seed, same
    ``state_dict``.

    Args:
        in_features: K, size of the last dimension of the input.
        out_features: N, size of the last dimension of the output.
        bias: whether the layer has a bias of shape ``[N]``.
        device: device of the parameters.
        dtype: dtype of the parameters; float32, float64, bfloat16 or float16.

    Shape:
        Input ``[*, K]``, or sparse ``[M, K]`` as in :func:`pyfastnn.functional.linear_relu`; output
        ``[*, N]``.

    Example:
        >>> layer = LinearReLU(784, 128)
        >>> layer(torch.randn(32, 784)).shape
        torch.Size([32, 128])
    """

    __prepare_scriptable__ = _refuse_scripting

    if TYPE_CHECKING:  # nn.Module says that a call takes and returns anything

        def __call__(self, input: Tensor | CsrMatrix) -> Tensor:
            """Run hooks and :meth:`forward`."""

    def forward(self, input: Tensor | CsrMatrix) -> Tensor:
        """Apply the layer; see :func:`pyfastnn.functional.linear_relu`."""
        if _lacks_kernels(input):
            return torch.relu(super().forward(input))  # type: ignore[arg-type]
        parameters = self._parameters  # self.weight costs ten times as much
        try:
            weight, bias = parameters["weight"], parameters["bias"]
        except KeyError:  # a parametrization or pruning keeps the tensors elsewhere
            return functional.linear_relu(input, self.weight, self.bias)
        return functional.linear_relu(input, weight, bias)  # type: ignore[arg-type]


class MLP(nn.Sequential):
    """Multi-layer perceptron: linear layers with a ReLU between them, run as one operator.

    The children are ``nn.Linear`` and ``nn.ReLU`` under the names ``0, 1, 2, ...``, as if written
    by hand with ``nn.Sequential``: same initialisation from the same seed, and a ``state_dict``
    loads both ways. Children can be read, frozen, replaced, appended and hooked as usual. When the
    fused operator cannot do what they ask for, for example because a child has a hook that must
    run, the children run one by one as in ``nn.Sequential``: :meth:`fallback_reason` and the
    module's ``repr`` tell.

    Args:
        sizes: features of the input, of every hidden layer and of the output; two or more.
        bias: whether the linear layers have a bias.
        activate_last: end with a ReLU.
        device: device of the parameters.
        dtype: dtype of the parameters; float32, float64, bfloat16 or float16.

    Shape:
        Input ``[*, sizes[0]]``, or sparse ``[M, sizes[0]]`` as in
        :func:`pyfastnn.functional.linear_relu`; output ``[*, sizes[-1]]``.

    Raises:
        ValueError: if ``sizes`` has fewer than two entries.

    Note:
        A slice such as ``model[:2]`` is an ordinary ``nn.Sequential`` that shares the children.

    Example:
        >>> model = MLP([784, 128, 64, 10])
        >>> model(torch.randn(32, 784)).shape
        torch.Size([32, 10])
    """

    __prepare_scriptable__ = _refuse_scripting

    def __init__(
        self,
        sizes: Sequence[int],
        bias: bool = True,
        activate_last: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(
                f"MLP: expected sizes to hold at least two entries (input and output features), "
                f"got {list(sizes)}"
            )
        layers: list[nn.Module] = []
        for in_features, out_features in pairwise(sizes):
            layers += [nn.Linear(in_features, out_features, bias, device, dtype), nn.ReLU()]
        super().__init__(*(layers if activate_last else layers[:-1]))

    if TYPE_CHECKING:

        def __call__(self, input: Tensor | CsrMatrix) -> Tensor:
            """Run hooks and :meth:`forward`."""

    def forward(self, input: Tensor | CsrMatrix) -> Tensor:
        """Apply the network; see :func:`pyfastnn.functional.mlp`."""
        chain = _fusible_chain(self._modules)
        if isinstance(chain, str) or _lacks_kernels(input):
            return super().forward(input)  # type: ignore[no-any-return, no-untyped-call]
        return functional.mlp(input, chain.weights, chain.biases, chain.activate_last)

    def fallback_reason(self) -> str | None:
        """Say why the next call would run the children one by one.

        So do layers whose weights DTensor has divided among processes, because something has to be
        sent between them.

        Returns:
            None if it would run fused, else one sentence that names the child and the reason.
        """
        chain = _fusible_chain(self._modules)
        if isinstance(chain, str):
            return chain
        if not functional.CUDA_IS_BUILT and chain.weights[0].is_cuda:
            return f"it {functional.WITHOUT_CUDA}"
        return _sharded_child(self._modules) if len(chain.weights) > 1 else None

    def extra_repr(self) -> str:
        """Tell in the module's ``repr`` whether it runs fused."""
        reason = self.fallback_reason()
        return "fused=True" if reason is None else f"fused=False: {reason}"

    @overload
    def __getitem__(self, index: int) -> nn.Module: ...

    @overload
    def __getitem__(self, index: slice) -> nn.Sequential: ...

    def __getitem__(self, index: int | slice) -> nn.Module:
        """Return a child, or a plain ``nn.Sequential`` of the children in a slice."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)


def _lacks_kernels(input: object) -> bool:
    # Of SciPy's matrices there is no device; where torch.fx traces, it is something else than True.
    return not functional.CUDA_IS_BUILT and getattr(input, "is_cuda", False) is True


class _Chain(NamedTuple):
    """Arguments of one fused call."""

    weights: list[Tensor]
    biases: list[Tensor | None]
    activate_last: bool


def _fusible_chain(modules: Mapping[str, nn.Module | None]) -> _Chain | str:
    """Collect the arguments of one fused call, or say why there cannot be one.

    Nothing is remembered between calls, so nothing can be out of date. The price is about 1 us for
    three layers; it would be twice that without reading __dict__ directly.
    """
    if (
        _module._global_forward_hooks
        or _module._global_forward_pre_hooks
        or _module._global_backward_hooks
        or _module._global_backward_pre_hooks
    ):
        return "a hook is registered for all modules"
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    linear, relu = nn.Linear, nn.ReLU
    expected: type[nn.Module] = linear
    for child in modules.values():
        if type(child) is not expected:
            return _say(modules, child, f"is a {type(child).__name__}, not a {expected.__name__}")
        state = child.__dict__
        if (
            state["_forward_hooks"]
            or state["_forward_pre_hooks"]
            or state["_backward_hooks"]
            or state["_backward_pre_hooks"]
        ):
            return _say(modules, child, "has a hook")
        if "forward" in state:
            return _say(modules, child, "has a forward of its own")
        if expected is relu:
            expected = linear
            continue
        parameters = state["_parameters"]
        try:
            weights.append(parameters["weight"])
            biases.append(parameters["bias"])
        except KeyError:
            return _say(modules, child, "computes its parameters")
        expected = relu
    if not weights:
        return "there is no Linear layer"
    return _Chain(weights, biases, expected is linear)


def _sharded_child(modules: Mapping[str, nn.Module | None]) -> str | None:
    """Name a layer that needs other processes before the next one can run.

    Weights that FSDP has divided are whole by the time they are used.
    """
    for child in modules.values():
        placements = getattr(getattr(child, "weight", None), "placements", ())  # of a DTensor
        if hasattr(child, "_is_fsdp_managed_module"):
            continue
        if any(placement.is_shard() for placement in placements):
            return _say(modules, child, "has a weight that is divided among processes")
    return None


def _say(modules: Mapping[str, nn.Module | None], child: nn.Module | None, why: str) -> str:
    name = next(name for name, module in modules.items() if module is child)
    return f"child {name} {why}"
