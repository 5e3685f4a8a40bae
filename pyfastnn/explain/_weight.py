"""What the gradient predicts for one weight, and what the loss really does."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyfastnn.explain._run import LossFn, Pass, copy_with, nothing_changed, random_state, run


@dataclass(frozen=True)
class WeightCheck:
    """A gradient beside the truth, for one weight w; ``print`` it.

    Attributes:
        layer: name of the layer.
        row, column: output and input that the weight connects.
        value: w.
        change: how far it was moved.
        gradient: what backward found for it: the predicted change of the loss, divided by
            ``change``.
        slope: the real one, ``(loss(w + change) - loss(w - change)) / (2 * change)``, computed in
            float64.
        switched: how many values of ReLUs are on at one of the two places and off at the other.
            Between them the loss has a kink, which no gradient can predict.
    """

    layer: str
    row: int
    column: int
    value: float
    change: float
    gradient: float
    slope: float
    switched: int

    @property
    def predicted(self) -> float:
        """What the gradient predicts for the loss, ``gradient * change``."""
        return self.gradient * self.change

    @property
    def actual(self) -> float:
        """What really happens to the loss, ``slope * change``."""
        return self.slope * self.change

    @property
    def difference(self) -> float:
        """``actual - predicted``."""
        return self.actual - self.predicted

    def __str__(self) -> str:
        """Tell both numbers and their difference, a line each."""
        lines = [
            f"{self.layer}.weight[{self.row}, {self.column}] = {self.value:.6g}, "
            f"moved by {self.change:.6g}",
            f"  the gradient predicts that the loss changes by {self.predicted:+.6e}",
            f"  it really changes by                           {self.actual:+.6e}",
            f"  difference                                     {self.difference:+.1e}",
        ]
        if self.switched:
            lines.append(f"  {self.switched} values of ReLUs switch on or off on the way")
        return "\n".join(lines)


class Replay:
    """The model, its input and its random numbers as they were, to be run again in float64."""

    def __init__(self, model: nn.Module, x: Tensor, target: Any, loss_fn: LossFn) -> None:
        self._rewind = random_state(model, x)
        self._parameters = list(model.parameters())
        self._model = copy_with(model, lambda t: _like(t, t.detach().clone()))
        self._x = x.detach().clone()
        self._target = target.detach().clone() if isinstance(target, Tensor) else target
        self._loss_fn = loss_fn

    def value(self, parameter: str, place: tuple[int, int]) -> float:
        """Return a number of a parameter."""
        return float(self._model.get_parameter(parameter).detach()[place])

    def run(self, parameter: str, place: tuple[int, int], shift: float) -> Pass:
        """Run with one number of a parameter moved."""
        model = copy_with(self._model, lambda t: _like(t, _double(t.detach().clone())))
        with torch.no_grad():
            model.get_parameter(parameter)[place] += shift
        loss_fn = self._loss_fn
        if isinstance(loss_fn, nn.Module):
            loss_fn = copy.deepcopy(loss_fn).double()
        target = _double(self._target) if isinstance(self._target, Tensor) else self._target
        x = _double(self._x)
        with nothing_changed(model, x):
            self._rewind()
            try:
                done = run(model, x, target, loss_fn, "weight")
            except RuntimeError as error:
                error.add_note("BackwardTrace.weight runs the model and its loss in float64.")
                raise
        if _depends_on(done.loss, self._parameters):
            raise ValueError(
                "weight: loss_fn uses parameters of the model itself, where a weight that is moved "
                "in a copy has no effect; expected a function of its arguments"
            )
        return done


def check_weight(
    replay: Replay,
    layer: str,
    parameter: str,
    place: tuple[int, int],
    gradient: float,
    change: float,
) -> WeightCheck:
    """Compare a gradient with the loss at two places."""
    down, up = (replay.run(parameter, place, shift) for shift in (-change, change))
    pairs = [(a.active, b.active) for a, b in zip(down.calls, up.calls, strict=True)]
    return WeightCheck(
        layer=layer,
        row=place[0],
        column=place[1],
        value=replay.value(parameter, place),
        change=change,
        gradient=gradient,
        slope=(up.loss.item() - down.loss.item()) / (2 * change),
        switched=sum(int((a ^ b).sum()) for a, b in pairs if a is not None and b is not None),
    )


def _like(old: Tensor, new: Tensor) -> Tensor:
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _depends_on(loss: Tensor, parameters: list[nn.Parameter]) -> bool:
    known = {id(parameter) for parameter in parameters}
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in known:
            return True
        nodes += [next_node for next_node, _ in node.next_functions]
    return False
