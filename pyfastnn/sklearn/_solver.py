"""Adam and SGD as scikit-learn defines them: numbers, learning rate, state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from pyfastnn import _C
from pyfastnn.sklearn._arrays import as_tensor

_SMALLEST_RATE = 1e-6  # where the adaptive schedule ends


@dataclass
class Solver:
    """What ``fit`` and ``partial_fit`` keep beside the parameters.

    Attributes:
        kind: ``"sgd"`` or ``"adam"``.
        learning_rate_init: the rate at the start.
        learning_rate: the rate of the next epoch.
        schedule: ``"constant"``, ``"invscaling"`` or ``"adaptive"``.
        power_t: exponent of ``"invscaling"``.
        numbers: SGD: momentum, dampening, nesterov. Adam: beta1, beta2, epsilon, decoupled decay.
        state: for weight 0, bias 0, weight 1, ...: SGD: the velocity divided by
            ``-learning_rate_init``. Adam: the means of gradients and of their squares.
        steps: Adam: a counter for each parameter.
    """

    kind: str
    learning_rate_init: float
    learning_rate: float
    schedule: str
    power_t: float
    numbers: list[float]
    state: list[list[Tensor]]
    steps: list[Tensor | None]

    @classmethod
    def start(cls, estimator: Any, parameters: Sequence[Tensor]) -> Solver:
        """Return the solver that an estimator asks for, with empty state."""
        if estimator.solver == "sgd":
            numbers = [estimator.momentum, 0.0, float(estimator.nesterovs_momentum)]
            moments = 0 if estimator.momentum == 0 else 1
            schedule = estimator.learning_rate
        else:
            numbers = [estimator.beta_1, estimator.beta_2, estimator.epsilon, 0.0]
            moments, schedule = 2, "constant"
        rate = float(estimator.learning_rate_init)
        return cls(
            estimator.solver,
            rate,
            rate,
            schedule,
            float(estimator.power_t),
            [float(number) for number in numbers],
            [[torch.zeros_like(p, device="cpu") for _ in range(moments)] for p in parameters],
            [_counter(0) if estimator.solver == "adam" else None for _ in parameters],
        )

    def plan(self, parameters: Sequence[Tensor], loss: str) -> _C.TrainPlan:
        """Tell C++ what to train, all layers but the last with a ReLU."""
        # coefs_ may have been set, and a state that scikit-learn has left may lie otherwise.
        self.state = [
            [_as_laid_out(moment, parameter) for moment in moments]
            for parameter, moments in zip(parameters, self.state, strict=True)
        ]
        planned = [
            _C.PlannedParameter(parameter.requires_grad_(), 0, state, step, False)
            for parameter, state, step in zip(parameters, self.state, self.steps, strict=True)
        ]
        relu = [True] * (len(parameters) // 2 - 1) + [False]
        plan = _C.TrainPlan(planned, relu, loss, False, 0.0, -100, self.kind, False)
        plan.set_groups([[self.learning_rate_init, 0.0, 0.0, *self.numbers]])
        return plan

    @property
    def rate(self) -> float:
        """What the schedule has made of the learning rate, as a factor."""
        return self.learning_rate / self.learning_rate_init

    def end_epoch(self, time_step: int) -> None:
        """Let the schedule act; ``time_step`` counts the rows that were trained on so far."""
        if self.schedule == "invscaling":
            self.learning_rate = self.learning_rate_init / (time_step + 1) ** self.power_t

    def slow_down(self) -> bool:
        """Reduce the learning rate where training no longer improves; False: it should stop."""
        if self.schedule != "adaptive" or self.learning_rate <= _SMALLEST_RATE:
            return False
        self.learning_rate /= 5
        return True


def adopt(optimizer: Any, dtype: npt.DTypeLike) -> Solver:
    """Return a solver, its state in ``dtype``, that goes on where one of scikit-learn's stopped."""
    rate = float(optimizer.learning_rate_init)
    if hasattr(optimizer, "velocities"):
        numbers = [float(optimizer.momentum), 0.0, float(optimizer.nesterov)]
        velocities = [velocity / -rate for velocity in optimizer.velocities]
        now, schedule, power_t = optimizer.learning_rate, optimizer.lr_schedule, optimizer.power_t
        moments, count = [velocities] if optimizer.momentum else [], len(velocities)
        kind, clock = "sgd", None
    else:
        numbers = [optimizer.beta_1, optimizer.beta_2, optimizer.epsilon, 0.0]
        now, schedule, power_t = rate, "constant", 0.5
        moments, count = [optimizer.ms, optimizer.vs], len(optimizer.ms)
        kind, clock = "adam", optimizer.t
    # Theirs: all weights [in, out], then all biases.
    places = [place for layer in range(count // 2) for place in (layer, count // 2 + layer)]
    state = [[as_tensor(moment[place].T, dtype).clone() for moment in moments] for place in places]
    steps = [None if clock is None else _counter(clock) for _ in places]
    return Solver(kind, rate, float(now), schedule, float(power_t), numbers, state, steps)


def _as_laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor, or a copy that lies in memory as another of the same shape, in its dtype."""
    same = tensor.stride() == like.stride() and tensor.dtype == like.dtype
    return tensor if same else torch.empty_like(like, requires_grad=False).copy_(tensor)


def _counter(step: int) -> Tensor:
    return torch.tensor(float(step), dtype=torch.float64, device="cpu")
