"""Trains several models side by side on the same batches and times each of them.

A contender is a model and a way to train it for one epoch. Another way (a training step in one
call, say) is one more `Contender`, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import pyfastnn

# (images [n, k], labels [n], batch size, generator of the batch order) -> losses in the order in
# which they were met: one for each batch, or fewer, evenly spread over the epoch.
RunEpoch = Callable[[Tensor, Tensor, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Contender:
    """A model and the way to train it.

    Attributes:
        name: what reports call it.
        model: the network; maps images ``[n, k]`` to logits ``[n, classes]``.
        run_epoch: trains ``model`` for one epoch, with batches of the rows in the order
            ``torch.randperm(n, generator=generator)``.
    """

    name: str
    model: nn.Module
    run_epoch: RunEpoch


@dataclass
class History:
    """What was measured of one contender, one entry for each epoch.

    Attributes:
        losses: training losses as `Contender.run_epoch` returned them.
        seconds: time of the training loop alone.
        accuracies: share of test images classified correctly after the epoch, 0 to 1.
    """

    losses: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    @property
    def total_seconds(self) -> float:
        """Seconds in the training loop over all epochs."""
        return sum(self.seconds)

    @property
    def epoch_losses(self) -> Tensor:
        """Mean training loss of each epoch, ``[epochs]``."""
        return torch.stack([losses.mean() for losses in self.losses])


def ordinary_loop(
    model: nn.Module, loss_fn: nn.Module, optimizer: torch.optim.Optimizer
) -> RunEpoch:
    """Return the training loop of any PyTorch tutorial: autograd and a torch optimizer."""

    def run_epoch(
        images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator
    ) -> Tensor:
        losses = []
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            # index_select takes half the time of images[rows] here.
            batch, target = images.index_select(0, rows), labels.index_select(0, rows)
            loss = loss_fn(model(batch), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return run_epoch


def fused_epochs(
    model: nn.Module, loss_fn: nn.Module, optimizer: torch.optim.Optimizer
) -> RunEpoch:
    """Return the same training as one call for each epoch: `pyfastnn.TrainStep.run_epoch`."""
    step = pyfastnn.TrainStep(model, loss_fn, optimizer)

    def run_epoch(
        images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator
    ) -> Tensor:
        return torch.tensor([step.run_epoch(images, labels, batch_size, generator=generator)])

    return run_epoch


def train_side_by_side(
    contenders: list[Contender],
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch: Callable[[], object],
) -> list[History]:
    """Train all contenders, epoch by epoch in turn, so that noise of the machine hits all alike.

    Every contender meets the same batches: the order of epoch ``e`` depends on ``seed`` and ``e``
    alone. Who goes first changes with each epoch. Only the training loops are timed.

    Args:
        contenders: whom to train; their models are changed in place.
        train_set: images ``[n, k]`` and labels ``[n]``.
        test_set: images ``[m, k]`` and labels ``[m]``.
        epochs: how often each contender sees the training set.
        batch_size: rows of a batch; the last batch of an epoch may have fewer.
        seed: seed of the batch order.
        on_epoch: called after each epoch of each contender, outside of the timing.

    Returns:
        The histories, in the order of ``contenders``.
    """
    histories = [History() for _ in contenders]
    for epoch in range(epochs):
        turns = list(zip(contenders, histories, strict=True))
        for contender, history in turns if epoch % 2 == 0 else reversed(turns):
            generator = torch.Generator().manual_seed(seed + epoch)
            start = time.perf_counter()
            losses = contender.run_epoch(*train_set, batch_size, generator)
            history.seconds.append(time.perf_counter() - start)
            history.losses.append(losses)
            predictions = predict(contender.model, test_set[0])
            history.accuracies.append((predictions == test_set[1]).float().mean().item())
            on_epoch()
    return histories


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the class of the largest logit for each row of ``images``, int64 ``[n]``."""
    with torch.inference_mode():
        logits: Tensor = model(images)
    return logits.argmax(dim=1)
