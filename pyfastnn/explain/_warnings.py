"""What in a trace deserves a warning, with the thresholds that decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.explain._trace import LayerTrace

DEAD_SHARE = 0.25  # of the units of a ReLU
MIN_ROWS = 16  # in fewer rows a unit that rests cannot be told from one that is dead
VANISHING = 1e-3  # gradient that leaves a layer, divided by the one that comes from the loss
EXPLODING = 1e3


@dataclass(frozen=True)
class LayerWarning:
    """Something in a trace that usually means that training goes wrong.

    Attributes:
        kind: ``"dead"``, ``"vanishing"``, ``"exploding"`` or ``"not finite"``.
        layer: name of the layer.
        message: one sentence.
    """

    kind: str
    layer: str
    message: str

    def __str__(self) -> str:
        """Return the message."""
        return self.message


def find_warnings(layers: Sequence[LayerTrace]) -> list[LayerWarning]:
    """Look for dead ReLUs, and for the first layer behind which gradients vanish or explode.

    Args:
        layers: from the loss to the input.
    """
    found = [warning for layer in layers for warning in _dead(layer)]
    start = layers[0].gradient_in if layers else None
    if not start:
        return found
    if not math.isfinite(start):
        return [*found, _warn("not finite", layers[0], "gets a gradient that is not finite")]
    for layer in layers:
        if layer.gradient_out is None:
            continue
        share = layer.gradient_out / start
        if not math.isfinite(share):
            return [*found, _warn("not finite", layer, "hands on a gradient that is not finite")]
        if share < VANISHING:
            what = f"{share:.1e} of the gradient is left (under {VANISHING:g}): it vanishes"
            return [*found, _warn("vanishing", layer, f"behind it {what}")]
        if share > EXPLODING:
            what = f"the gradient is {share:.1e} times as large (over {EXPLODING:g}): it explodes"
            return [*found, _warn("exploding", layer, f"behind it {what}")]
    return found


def _dead(layer: LayerTrace) -> list[LayerWarning]:
    if layer.dead_share is None or layer.dead_share <= DEAD_SHARE or layer.rows < MIN_ROWS:
        return []
    count = round(layer.dead_share * layer.out_features)
    what = (
        f"{count} of {layer.out_features} units ({layer.dead_share:.0%}, over {DEAD_SHARE:.0%}) "
        f"are dead: zero in all {layer.rows} rows, so they learn nothing from them"
    )
    return [_warn("dead", layer, what)]


def _warn(kind: str, layer: LayerTrace, what: str) -> LayerWarning:
    return LayerWarning(kind, layer.name, f"{layer.name}: {what}")
