"""Backward traces in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pyfastnn.explain._explain import explain_backward
from pyfastnn.explain._trace import BackwardTrace


class Writer(Protocol):
    """The part of ``torch.utils.tensorboard.SummaryWriter`` that is used."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int, /) -> Any:
        """Write a number."""

    def add_text(self, tag: str, text_string: str, global_step: int, /) -> Any:
        """Write a text."""


class BackwardLogger:
    """Writes a backward trace to TensorBoard every ``every`` steps of a training.

    Call it before or after the step, with the batch: the trace is a forward and a backward of its
    own, so it also works beside :class:`pyfastnn.TrainStep`. For a small network it takes as long
    as some thirty steps of training; the other steps pay one comparison. The scalars are
    ``backward/loss``, ``backward/fc1/gradient_in`` and so on, see :meth:`BackwardTrace.scalars`;
    warnings are written as text.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``, or the folder for one (needs the
            package ``tensorboard``).
        model: as for :func:`explain_backward`.
        loss_fn: as for :func:`explain_backward`.
        every: steps from one trace to the next.
        optimizer: for the size of updates.

    Raises:
        ImportError: if ``writer`` is a folder and tensorboard is not installed.
        ValueError: if ``every`` is less than 1.

    Example:
        >>> log = BackwardLogger("runs/mnist", model, loss_fn, every=100)  # doctest: +SKIP
        >>> for step, (x, target) in enumerate(batches):  # doctest: +SKIP
        ...     log(step, x, target)
        ...     train(x, target)
    """

    def __init__(
        self,
        writer: Writer | str | Path,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        every: int = 100,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"BackwardLogger: expected every to be 1 or more, got {every}")
        self._every = every
        self._model = model
        self._loss_fn = loss_fn
        self._optimizer = optimizer
        self._writer: Writer
        self._flush: Callable[[], None] = lambda: None  # the owner of a writer decides when
        if isinstance(writer, (str, Path)):
            self._writer, self._flush = _open(writer)
        else:
            self._writer = writer

    def __call__(self, step: int, x: Tensor, target: Any) -> BackwardTrace | None:
        """Write a trace if ``step`` is a multiple of ``every``.

        Returns:
            The trace, else None.
        """
        if step % self._every:
            return None
        trace = explain_backward(self._model, x, target, self._loss_fn, optimizer=self._optimizer)
        for name, value in trace.scalars().items():
            self._writer.add_scalar(f"backward/{name}", value, step)
        if trace.warnings:
            text = "\n\n".join(map(str, trace.warnings))
            self._writer.add_text("backward/warnings", text, step)
        self._flush()
        return trace


def _open(folder: str | Path) -> tuple[Writer, Callable[[], None]]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "BackwardLogger: writing to a folder needs tensorboard: pip install tensorboard"
        ) from error
    writer = SummaryWriter(str(folder))
    return writer, writer.flush
