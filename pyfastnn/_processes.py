"""Training steps whose gradients are summed over the processes of a group."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from pyfastnn._step_parts import LossDescription
from pyfastnn._torch_plan import Plan


class Job(NamedTuple):
    """What a step does, the same in all processes."""

    plan: Plan
    loss: LossDescription
    dtype: torch.dtype
    device: torch.device
    max_grad_norm: float | None


class Processes:
    """The processes that train one model together.

    Args:
        group: they communicate through it, with one all-reduce a step.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._sums: Tensor | None = None

    def share(self, tensors: list[Tensor | None]) -> None:
        """Give all processes the tensors of the first."""
        for tensor in tensors:
            if tensor is not None:
                dist.broadcast(tensor.data, src=self._first(), group=self._group)

    def _first(self) -> int:
        return dist.get_global_rank(self._group, 0)

    def step(self, job: Job, x: Tensor, target: Tensor) -> Tensor:
        """Train on the rows of all processes; returns the loss of all."""
        loss = self._update(job, x, target)
        return torch.tensor(loss, dtype=job.dtype, device=job.device)

    def _update(self, job: Job, x: Tensor, target: Tensor) -> float:
        """One update with the gradients of all processes; returns the loss."""
        size = job.plan.gradient_count()
        kind = (size + 2, job.dtype, job.device)
        if self._sums is None or kind != (len(self._sums), self._sums.dtype, self._sums.device):
            with torch.inference_mode(False):  # later steps may run outside of it
                self._sums = torch.empty(size + 2, dtype=job.dtype, device=job.device)
        total, count = job.plan.gradients(x, target, self._sums)
        self._sums[size], self._sums[size + 1] = total, count
        dist.all_reduce(self._sums, group=self._group)
        divisor = self._sums[size + 1].item() if job.loss.mean else 1.0
        # The mean of no rows is NaN, but their gradients are zeros.
        job.plan.apply(self._sums, 1 / divisor if divisor else 1.0, job.max_grad_norm)
        return self._sums[size].item() / divisor if divisor else float("nan")

    def epoch(
        self,
        job: Job,
        X: Tensor,
        target: Tensor,
        order: Tensor | None,
        batch_size: int,
        drop_last: bool,
        scale: float,
        shift: float,
    ) -> float:
        """Train on all rows once, every process on its share of each batch.

        Returns:
            The mean loss of a row.
        """
        rank, world = dist.get_rank(self._group), dist.get_world_size(self._group)
        if order is None:
            order = torch.arange(len(X), device="cpu")
        order = order.to(job.device)  # where the group can send it
        dist.broadcast(order, src=self._first(), group=self._group)
        loss = samples = 0.0
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            if drop_last and len(rows) < batch_size:
                break
            mine = rows[rank::world]
            x = X[mine]
            if x.dtype == torch.uint8 or (scale, shift) != (1.0, 0.0):
                x = x.to(job.dtype) * scale + shift
            batch_loss = self._update(job, x, target[mine])
            count = len(rows)
            if job.loss.kind == "cross_entropy":
                count = int((target[rows] != job.loss.ignore_index).sum())
            if count:  # the mean of no rows is NaN, their sum is 0
                loss += batch_loss * count if job.loss.mean else batch_loss
            samples += count
        return loss / samples
