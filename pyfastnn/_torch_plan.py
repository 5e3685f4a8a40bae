"""The plan of a training step whose parameters are on a CUDA device: torch's own operations."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyfastnn import _C


def runs_on_torch(parameter: Tensor) -> bool:
    """Say whether a TorchPlan has to train such parameters; ``_C.TrainPlan`` does on the CPU."""
    return parameter.is_cuda


class TorchPlan:
    """Does for :class:`pyfastnn.TrainStep` what ``_C.TrainPlan`` does, with the user's own parts.

    Args:
        model: the network.
        loss_fn: its loss module.
        optimizer: its optimizer.
        parameters: weight 0, bias 0, weight 1, ...; None where a layer has no bias.
        trained: those of them that have a gradient; the optimizer knows which it updates.
        compute_bfloat16: compute products in bfloat16, by autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor | None],
        trained: Sequence[Tensor],
        compute_bfloat16: bool,
    ) -> None:
        self._model, self._loss_fn, self._optimizer = model, loss_fn, optimizer
        self._parameters, self._trained = parameters, trained
        self._bfloat16 = compute_bfloat16
        summed_loss: Any = copy.copy(loss_fn)
        summed_loss.reduction = "sum"
        self._summed_loss: nn.Module = summed_loss
        self._check_parameters()

    def set_groups(self, groups: Sequence[Sequence[float]]) -> None:
        """Do nothing: the optimizer reads its numbers itself."""

    @torch.inference_mode(False)
    def step(self, x: Tensor, target: Tensor, max_norm: float | None) -> Tensor:
        """Train on a batch; return its loss."""
        self.check(x, target, False)
        loss, grads = self._differentiate(self._loss_fn, x, target)
        self._update(grads, max_norm)
        return loss

    @torch.inference_mode(False)
    def gradients(self, x: Tensor, target: Tensor, gradients: Tensor) -> tuple[float, float]:
        """Write the gradients of the summed loss; return it, and what to divide by for a mean."""
        self.check(x, target, False)
        loss, grads = self._differentiate(self._summed_loss, x, target)
        if grads:
            torch.cat([grad.flatten() for grad in grads], out=gradients[: self.gradient_count()])
        return loss.item(), float(self._count(target)) if self._takes_mean else 1.0

    @torch.inference_mode(False)
    def apply(self, gradients: Tensor, grad_scale: float, max_norm: float | None) -> None:
        """Update with what :meth:`gradients` wrote."""
        sizes = [parameter.numel() for parameter in self._trained]
        flat = torch.split(gradients[: self.gradient_count()], sizes)
        self._update(
            [part.view_as(p) * grad_scale for part, p in zip(flat, self._trained, strict=True)],
            max_norm,
        )

    def gradient_count(self) -> int:
        """Count the elements of all gradients."""
        return sum(parameter.numel() for parameter in self._trained)

    @torch.inference_mode(False)
    def run_epoch(
        self,
        x: Tensor,
        target: Tensor,
        order: Tensor | None,
        batch_size: int,
        drop_last: bool,
        scale: float,
        shift: float,
        max_norm: float | None,
    ) -> float:
        """Train on all rows once; return the mean loss of a row. Waits for the device once."""
        order = torch.arange(len(x), device=x.device) if order is None else order
        total = samples = torch.zeros((), dtype=torch.float64, device=x.device)
        for rows in torch.split(order.to(x.device), batch_size):
            if drop_last and len(rows) < batch_size:
                break
            batch, wanted = x[rows], target[rows]
            if batch.dtype == torch.uint8 or (scale, shift) != (1.0, 0.0):
                batch = batch.to(self._weight.dtype) * scale + shift
            loss = self.step(batch, wanted, max_norm)
            count = self._rows_that_count(wanted)
            # The mean of no rows is NaN, their sum is 0.
            total = total + (torch.where(count > 0, loss * count, 0) if self._takes_mean else loss)
            samples = samples + count
        return (total / samples).item()

    def check(self, x: Tensor, target: Tensor, allow_bytes: bool) -> None:
        """Raise unless a batch, or with uint8 a data set, fits the parameters."""
        self._check_parameters()
        weight, dtype = self._weight, self._weight.dtype
        in_features, out_features = weight.shape[1], self._out_features
        for name, tensor in (("x", x), ("target", target)):
            if not isinstance(tensor, Tensor):
                got = type(tensor).__name__
                raise TypeError(f"TrainStep: expected {name} to be a tensor, got {got}")
            _expect(tensor.device == weight.device, f"{name} on {weight.device}", tensor.device)
            if tensor.requires_grad:
                raise RuntimeError(f"TrainStep: expected {name} not to require grad")
        _expect(
            x.dim() == 2 and x.shape[1] == in_features, f"x of shape [M, {in_features}]", x.shape
        )
        dtypes = [dtype, *[torch.bfloat16] * self._bfloat16, *[torch.uint8] * allow_bytes]
        _expect(x.dtype in dtypes, f"x of dtype {dtype} like the parameters", x.dtype)
        is_classes = isinstance(self._loss_fn, nn.CrossEntropyLoss)
        wanted = torch.int64 if is_classes else dtype
        shape = (len(x),) if is_classes else (len(x), out_features)
        _expect(
            target.dtype == wanted,
            f"target of dtype {wanted}{' (class indices)' * is_classes}",
            target.dtype,
        )
        _expect(target.shape == shape, f"target of shape {list(shape)}", target.shape)

    @property
    def _weight(self) -> Tensor:
        weight = self._parameters[0]
        assert weight is not None
        return weight

    @property
    def _out_features(self) -> int:
        weight = self._parameters[-2]
        assert weight is not None
        return len(weight)

    @property
    def _takes_mean(self) -> bool:
        return bool(self._loss_fn.reduction == "mean")

    def _check_parameters(self) -> None:
        first = self._weight
        for tensor in self._parameters:
            if tensor is None:
                continue
            _expect(
                tensor.dtype == first.dtype and first.dtype in (torch.float32, torch.float64),
                "all parameters to be float32 or all float64",
                f"{first.dtype} and {tensor.dtype}",
            )
            _expect(tensor.device == first.device, "all parameters on one device", tensor.device)

    def _count(self, target: Tensor) -> Tensor | int:
        """Return what a mean loss is divided by."""
        if isinstance(self._loss_fn, nn.CrossEntropyLoss):
            return (target != self._loss_fn.ignore_index).sum()
        return target.numel()

    def _rows_that_count(self, target: Tensor) -> Tensor:
        """Return how many rows have a loss."""
        if isinstance(self._loss_fn, nn.CrossEntropyLoss):
            return (target != self._loss_fn.ignore_index).sum()
        return torch.full((), len(target), device=target.device)

    def _differentiate(
        self, loss_fn: nn.Module, x: Tensor, target: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return a loss and its gradients."""
        x, target = (t.clone() if t.is_inference() else t for t in (x, target))
        # No cache: an autocast around many steps would keep casts from before an update.
        autocast = torch.autocast(
            x.device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False
        )
        with torch.enable_grad(), autocast:
            loss = loss_fn(self._model(x), target)
            grads = torch.autograd.grad(loss, self._trained) if self._trained else ()
        return loss.detach(), grads

    def _update(self, grads: Sequence[Tensor], max_norm: float | None) -> None:
        with self._borrowed_grads(grads):
            if max_norm is not None:
                nn.utils.clip_grad_norm_(self._trained, max_norm)
            self._optimizer.step()

    @contextmanager
    def _borrowed_grads(self, grads: Sequence[Tensor]) -> Iterator[None]:
        """Let the optimizer see these gradients alone, and the user nothing of it."""
        groups = self._optimizer.param_groups
        everyone = [*self._trained, *(p for group in groups for p in group["params"])]
        kept = [parameter.grad for parameter in everyone]
        try:
            for parameter in everyone:
                parameter.grad = None
            for parameter, grad in zip(self._trained, grads, strict=True):
                parameter.grad = grad
            yield
        finally:
            for parameter, grad in zip(everyone, kept, strict=True):
                parameter.grad = grad


def _expect(holds: bool, what: str, got: object) -> None:
    if not holds:
        raise RuntimeError(f"TrainStep: expected {what}, got {got}")


Plan = _C.TrainPlan | TorchPlan
