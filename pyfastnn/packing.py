"""Networks whose weights are packed once, for inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

from pyfastnn import _C
from pyfastnn._chains import chain_of
from pyfastnn._packed_sparse import SparseFirst
from pyfastnn._sparse import CsrMatrix, is_sparse

_DENSE = torch.strided


def prepack(model: nn.Module) -> PackedMLP:
    """Make an inference module of a model: weights are packed once, not on every call.

    Args:
        model: ``nn.Linear``, :class:`pyfastnn.LinearReLU`, or an ``nn.Sequential`` /
            :class:`pyfastnn.MLP` (also nested) of those and ``nn.ReLU`` behind a linear layer. An
            ``nn.Flatten`` may come first; ``nn.Identity``, and ``nn.Dropout`` in eval mode, are
            left out. Parameters on the CPU, all float32, float64, bfloat16 or float16. It is not
            changed.

    Returns:
        A module that holds copies of the weights, a :class:`pyfastnn.packing.PackedMLP`.

    Raises:
        TypeError: if the model is something else; the message names the module and the reason.
        RuntimeError: if shapes, dtypes or devices of the parameters do not fit.

    Example:
        >>> model = pyfastnn.MLP([784, 128, 64, 10])
        >>> packed = prepack(model)
        >>> packed(torch.randn(1, 784)).shape
        torch.Size([1, 10])
    """
    return PackedMLP(_read(model))


class _Content(NamedTuple):
    """What a packed network computes; also what is pickled."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]
    relu: Sequence[bool]
    flatten: bool


def _read(model: nn.Module) -> _Content:
    chain = chain_of(model, "prepack", ignores=_does_nothing)
    parameters = [linear._parameters for linear in chain.linears]
    weights: list[Any] = [entry["weight"] for entry in parameters]
    return _Content(weights, [entry["bias"] for entry in parameters], chain.relu, chain.flatten)


def _does_nothing(module: nn.Module) -> bool:
    return type(module) is nn.Identity or (type(module) is nn.Dropout and not module.training)


@final
class PackedMLP(nn.Module):
    """A network for inference, made by :func:`pyfastnn.prepack`: no parameters and no autograd.

    Outputs have the bits of the model's own outputs from pyfastnn on the instruction set that was
    active when it was packed (which it keeps, whatever ``force_isa`` says later). It may be called
    from several Python threads at once: the GIL is released. ``pickle``, ``copy.deepcopy`` and
    ``state_dict`` hold plain weights, which are packed again for the processor they are loaded on.
    Autocast has no effect: inputs and outputs have the dtype of the weights.

    Shape:
        Input ``[*, in_features]`` (``[M, ...]`` with a leading ``nn.Flatten``) of the weights'
        dtype, or sparse ``[M, in_features]`` (a CSR tensor, or a CSR matrix or array of SciPy);
        output ``[*, out_features]``. The first sparse input makes a second copy of the first
        weight, which lies as sparse input needs it, and runs on the active instruction set.
    """

    def __init__(self, content: _Content) -> None:
        super().__init__()
        self.training = False
        self._pack(content)

    def _pack(self, content: _Content) -> None:
        self._network = _C.prepack(content.weights, content.biases, content.relu)
        self._run = self._network.forward  # looked up once: 0.1 us of a call
        self._sparse: SparseFirst | None = None
        self._relu = list(content.relu)
        self._flatten = content.flatten
        self._dtype = content.weights[0].dtype
        self._sizes = [content.weights[0].shape[1], *(len(weight) for weight in content.weights)]

    def __call__(self, input: Tensor | CsrMatrix) -> Tensor:
        """Apply the network.

        Raises:
            RuntimeError: if the input has another shape, dtype, format or device, or needs a
                gradient.
        """
        # nn.Module's own costs 0.5 us, a sixth of a small call.
        if (
            self._flatten
            or self._forward_hooks
            or self._forward_pre_hooks
            or _module._global_forward_hooks
            or _module._global_forward_pre_hooks
        ):
            output: Tensor = super().__call__(input)
            return output
        if getattr(input, "layout", None) is not _DENSE:
            return self.forward(input)
        return self._run(input)  # type: ignore[arg-type]

    def forward(self, input: Tensor | CsrMatrix) -> Tensor:
        """Apply the network; hooks do not run."""
        if is_sparse(input):
            if self._sparse is None:
                self._sparse = SparseFirst(*self._content()[:3])
            return self._sparse(input)
        if self._flatten:
            input = input.flatten(1)  # type: ignore[union-attr]
        return self._run(input)  # type: ignore[arg-type]

    def is_stale(self, model: nn.Module) -> bool:
        """Say whether a model differs from what was packed.

        Weights are compared bit by bit, so writes through ``.data`` are seen too; that costs about
        as much as reading all weights twice.

        Args:
            model: usually the one that was given to :func:`pyfastnn.prepack`.

        Raises:
            TypeError: if the model could not be packed any more.
        """
        packed, now = self._content(), _read(model)
        return _outline(packed) != _outline(now) or not all(
            ours is theirs or _same_bits(ours, theirs)
            for ours, theirs in zip(
                [*packed.weights, *packed.biases], [*now.weights, *now.biases], strict=True
            )
        )

    def _content(self) -> _Content:
        weights, biases = self._network.weights(), self._network.biases()
        return _Content(weights, biases, self._relu, self._flatten)

    def train(self, mode: bool = True) -> PackedMLP:
        """Refuse training.

        Raises:
            RuntimeError: if ``mode`` is true.
        """
        if mode:
            raise RuntimeError(
                "prepack: a packed network is for inference only; train the model it was made "
                "from and prepack that again"
            )
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedMLP:
        moved = fn(torch.empty(0, dtype=self._dtype, device="cpu"))
        if moved.dtype != self._dtype or moved.device.type != "cpu":
            raise RuntimeError(
                f"prepack: packed weights stay {self._dtype} on the CPU and cannot become "
                f"{moved.dtype} on {moved.device}; convert the model and prepack that again"
            )
        return self

    def requires_grad_(self, requires_grad: bool = True) -> PackedMLP:
        """Refuse gradients, as :meth:`train` refuses training."""
        return self.train(requires_grad)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the plain weights, for ``state_dict`` and for pickles."""
        return self._content()._asdict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Pack the weights of another network of the same sizes.

        Raises:
            RuntimeError: if it has other sizes, another dtype, or ReLUs elsewhere.
        """
        now, other = self._content(), _Content(**state)
        if _outline(now) != _outline(other):
            raise RuntimeError(
                f"prepack: expected the state of a network like {self.extra_repr()}, got another"
            )
        self._pack(other)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_packed": self._content()}
        del state["_network"], state["_run"], state["_sparse"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        content = state.pop("_packed")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._pack(content)

    def extra_repr(self) -> str:
        """Tell the sizes in the module's ``repr``."""
        return f"{'-'.join(map(str, self._sizes))}, {self._dtype}"


def _outline(content: _Content) -> list[object]:
    tensors = [*content.weights, *content.biases]
    kinds = [None if t is None else (t.shape, t.dtype, t.device.type) for t in tensors]
    return [kinds, list(content.relu), content.flatten]


def _same_bits(a: Tensor | None, b: Tensor | None) -> bool:
    assert a is not None and b is not None
    b = b.detach().resolve_neg()
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    same = a.view(integer) == b.contiguous().view(integer)
    # NaN is NaN: packing may change which one.
    return bool((same | (a.isnan() & b.isnan())).all())
