"""Reads the numbers and the state of a torch optimizer for TrainStep."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import optimizer as _optimizer

from pyfastnn._chains import class_name
from pyfastnn._watch import Watch


class Place(NamedTuple):
    """Where the optimizer keeps what belongs to one parameter."""

    group: int  # -1: not updated
    state: list[Tensor]
    step: Tensor | None
    first: bool


class OptimizerReader:
    """Reads the numbers and the state of a torch optimizer, and publishes state made for it.

    Args:
        optimizer: ``SGD``, ``Adam`` or ``AdamW``.

    Raises:
        TypeError: for another optimizer, or one with hooks.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        kinds: dict[type[torch.optim.Optimizer], str] = {
            torch.optim.SGD: "sgd",
            torch.optim.Adam: "adam",
            torch.optim.AdamW: "adam",
        }
        kind = kinds.get(type(optimizer))
        if kind is None:
            names = ", ".join(known.__name__ for known in kinds)
            raise TypeError(
                f"TrainStep: expected optimizer to be one of {names}, got {class_name(optimizer)}"
            )
        self.kind = kind
        self._optimizer: Any = optimizer
        self._unpublished: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.groups()
        self.start_over()

    def groups(self) -> list[list[float]]:
        """Read the numbers of every param group, in the order that C++ expects.

        Raises:
            ValueError: for an option that is not supported.
            TypeError: if a hook would not run.
        """
        optimizer = self._optimizer
        if (
            optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or _optimizer._global_optimizer_pre_hooks
            or _optimizer._global_optimizer_post_hooks
        ):
            raise TypeError(
                f"TrainStep: {class_name(optimizer)} has a step hook, which would not run"
            )
        numbers = []
        for group in optimizer.param_groups:
            for option in ("amsgrad", "capturable", "differentiable"):
                if group.get(option):
                    raise ValueError(
                        f"TrainStep: {class_name(optimizer)} with {option}=True is not supported"
                    )
            common = [float(group["lr"]), float(group["weight_decay"]), float(group["maximize"])]
            if self.kind == "sgd":
                own = [group["momentum"], group["dampening"], group["nesterov"]]
            else:
                decoupled = group.get("decoupled_weight_decay", False)
                beta1, beta2 = group["betas"]
                own = [beta1, beta2, group["eps"], decoupled]
            numbers.append(common + [float(number) for number in own])
        return numbers

    def place(self, parameter: Tensor) -> Place:
        """Find a parameter's group and state; missing state is made, see :meth:`stepped`."""
        if not self.updates(parameter):
            return Place(-1, [], None, False)
        group = self._group_of[id(parameter)]
        state = self._optimizer.state.get(parameter, {})
        if self.kind == "sgd":
            return self._place_of_sgd(parameter, group, state)
        names = ("exp_avg", "exp_avg_sq")
        if "exp_avg" in state:
            return Place(group, [state[name] for name in names], state["step"], False)
        wide = torch.get_default_dtype() == torch.float64  # as torch makes its counters
        counter = torch.float64 if wide else torch.float32
        made = {"step": torch.tensor(0.0, dtype=counter, device="cpu")}
        made |= {name: torch.zeros_like(parameter, requires_grad=False) for name in names}
        self._unpublished.append((parameter, made))
        return Place(group, [made[name] for name in names], made["step"], False)

    def updates(self, parameter: Tensor) -> bool:
        """Say whether a parameter is trained.

        Raises:
            TypeError: if it has a hook.
        """
        if id(parameter) not in self._group_of or not parameter.requires_grad:
            return False
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise TypeError("TrainStep: a parameter has a hook, which would not run")
        return True

    def _place_of_sgd(self, parameter: Tensor, group: int, state: dict[str, Any]) -> Place:
        if self._optimizer.param_groups[group]["momentum"] == 0:
            return Place(group, [], None, False)
        buffer = state.get("momentum_buffer")
        if buffer is not None:
            return Place(group, [buffer], None, False)
        buffer = torch.zeros_like(parameter, requires_grad=False)
        self._unpublished.append((parameter, {"momentum_buffer": buffer}))
        return Place(group, [buffer], None, True)

    def start_over(self) -> None:
        """Forget what was placed; :meth:`place` is about to be called for every parameter."""
        self._unpublished.clear()
        self._group_of = {
            id(parameter): index
            for index, group in enumerate(self._optimizer.param_groups)
            for parameter in group["params"]
        }

    def structure(self) -> list[tuple[int, bool]]:
        """Which lists of parameters the groups have, and whether these have momentum buffers."""
        return [
            (id(group["params"]), group.get("momentum", 0) != 0)
            for group in self._optimizer.param_groups
        ]

    def dicts(self) -> list[dict[Any, Any]]:
        """All dicts in which a change of groups or state would show, but for the numbers."""
        optimizer = self._optimizer
        entries = [entry for entry in optimizer.state.values() if isinstance(entry, dict)]
        return [
            optimizer.__dict__,
            optimizer.state,
            *entries,
            optimizer._optimizer_step_pre_hooks,
            optimizer._optimizer_step_post_hooks,
            _optimizer._global_optimizer_pre_hooks,
            _optimizer._global_optimizer_post_hooks,
        ]

    def lists(self) -> list[list[Any]]:
        """All lists of the same kind."""
        groups = self._optimizer.param_groups
        return [groups, *(group["params"] for group in groups)]

    def watch_numbers(self) -> Watch | None:
        """Watch the numbers of the groups; None if they may change in place, as tensors do."""
        groups = self._optimizer.param_groups
        numbers = [value for group in groups for name, value in group.items() if name != "params"]
        return Watch(groups) if all(map(_is_constant, numbers)) else None

    def stepped(self) -> bool:
        """Publish the state that was made for the step that has just succeeded.

        Returns:
            Whether there was any.
        """
        published = bool(self._unpublished)
        for parameter, made in self._unpublished:
            self._optimizer.state[parameter].update(made)
        self._unpublished.clear()
        # What a scheduler's wrapper around optimizer.step notes, so that it sees the right order.
        self._optimizer._opt_called = True
        return published


def _is_constant(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_is_constant, value))
    return value is None or type(value) in (float, int, bool, str)
