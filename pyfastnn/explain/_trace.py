"""The result of explain_backward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from pyfastnn.explain._table import table
from pyfastnn.explain._warnings import LayerWarning, find_warnings
from pyfastnn.explain._weight import Replay, WeightCheck, check_weight

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerTrace:
    """One layer in a backward: what it gave out, and what it did to the gradient.

    Norms are Euclidean, over all rows and features. A value is None where there is nothing to say:
    a ReLU has no weight, and a layer that autograd does not reach has no gradient.

    Attributes:
        name: of the module with the weight; ``relu(fc1)`` is the ReLU behind ``fc1``, and a second
            call of ``fc1`` is ``fc1#2``.
        kind: ``"Linear"`` or ``"ReLU"``.
        in_features, out_features: sizes of the last dimension of input and output.
        rows: of the output, over all leading dimensions.
        value_rms: root of the mean square of what the layer gave out.
        zero_share: share of zeros in it, 0 to 1.
        dead_share: share of the ReLU's units that were active in no row.
        gradient_in: norm of the gradient that comes from the loss, of the layer's output.
        gradient_out: norm of the gradient that goes on, of the layer's input.
        weight_norm: norm of the weight.
        weight_gradient_norm: norm of its gradient, over all calls of the layer.
        error_share: its square, divided by the sum of the squares of all layers: how much of what a
            small step of gradient descent takes from the loss is due to this layer's weight.
        update_ratio: norm of the step that the optimizer would make, divided by ``weight_norm``.
    """

    name: str
    kind: str
    in_features: int
    out_features: int
    rows: int
    value_rms: float
    zero_share: float
    dead_share: float | None
    gradient_in: float | None
    gradient_out: float | None
    weight_norm: float | None
    weight_gradient_norm: float | None
    error_share: float | None
    update_ratio: float | None

    @property
    def factor(self) -> float | None:
        """``gradient_out / gradient_in``: the chain-rule factor; None where no gradient came."""
        if not self.gradient_in or self.gradient_out is None:
            return None
        return self.gradient_out / self.gradient_in


@dataclass(frozen=True, eq=False)
class BackwardTrace:
    """What happened in one backward, from the loss to the input; ``print`` it.

    Attributes:
        loss: its value.
        loss_name: name of the loss function.
        layers: from the loss to the input, the reverse of the order in which they ran.
        output_gradient: norm of the gradient of the model's output; None if that is no tensor.
    """

    loss: float
    loss_name: str
    layers: list[LayerTrace]
    output_gradient: float | None
    _gradients: dict[str, Tensor] = field(repr=False)
    _paths: dict[str, str | None] = field(repr=False)
    _replay: Replay = field(repr=False)

    @property
    def warnings(self) -> list[LayerWarning]:
        """Dead ReLUs, vanishing and exploding gradients.

        A ReLU is reported if more than 25 % of its units were active in no row, and there were 16
        rows or more. A gradient vanishes behind the first layer that hands on less than 0.001 of
        the gradient that came to the last layer, and explodes if it is more than 1000 times that,
        or not finite.
        """
        return find_warnings(self.layers)

    def __str__(self) -> str:
        """Tell it as a call stack, a line for each layer."""
        return table(self)

    def __getitem__(self, name: str) -> LayerTrace:
        """Return the layer of a name.

        Raises:
            KeyError: if there is none; the message lists those there are.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in reversed(self.layers))
        raise KeyError(f"no layer {name!r} in this trace; there are {names}")

    def scalars(self) -> dict[str, float]:
        """Return the numbers of all layers as ``{"fc1/gradient_in": ...}``, for any logger."""
        found = {"loss": self.loss}
        for layer in self.layers:
            for name in _SCALARS:
                value = getattr(layer, name)
                if value is not None:
                    found[f"{layer.name}/{name}"] = value
        return found

    def weight(self, layer: str, i: int, j: int, change: float = 1e-5) -> WeightCheck:
        """Compare what the gradient says about one weight with what the loss really does.

        The model runs twice more, in a float64 copy as it was when the trace was made, with the
        same random numbers, the weight moved down and up by ``change``.

        Args:
            layer: name of a linear layer.
            i: the output the weight leads to, its row.
            j: the input it comes from, its column.
            change: how far to move it.

        Returns:
            A :class:`pyfastnn.explain.WeightCheck` with both numbers and their difference.

        Raises:
            KeyError: if there is no such layer.
            ValueError: if it has no weight with a gradient, computes its weight from others, or if
                ``loss_fn`` uses parameters of the model itself.
            IndexError: if the weight is smaller.
        """
        name = self[layer].name
        if name not in self._gradients:
            raise ValueError(f"weight: {name} has no weight with a gradient")
        path = self._paths[name]
        if path is None:
            raise ValueError(f"weight: {name} computes its weight (pruning, parametrization)")
        value = float(self._gradients[name][i, j])
        return check_weight(self._replay, name, path, (i, j), value, change)

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the values, the gradients and the updates of all layers (needs matplotlib).

        Args:
            figure: where to draw; a new one if None.

        Returns:
            The figure.
        """
        from pyfastnn.explain._picture import draw

        return draw(self, figure)


_SCALARS = (
    "value_rms",
    "zero_share",
    "dead_share",
    "gradient_in",
    "gradient_out",
    "factor",
    "weight_norm",
    "weight_gradient_norm",
    "error_share",
    "update_ratio",
)
