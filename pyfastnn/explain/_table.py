"""A backward trace as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.explain._trace import BackwardTrace, LayerTrace

_WIDTHS = (9, 6, 6, 11, 11, 8, 10, 10, 7, 9)
_GROUPS = (("value", 2), ("units", 1), ("gradient", 3), ("weight", 4))
_COLUMNS = "rms,zero,dead,comes in,goes out,factor,norm,gradient,share,update".split(",")
_BETWEEN = "(other operations)"


def table(trace: BackwardTrace) -> str:
    """Return the trace as a call stack: the loss first, a line for each layer, the input last."""
    rows: list[tuple[str, str]] = [("", _group_line()), ("", _cells(_COLUMNS))]
    above = trace.output_gradient
    for layer in trace.layers:
        if _differ(above, layer.gradient_in):
            rows.append((_BETWEEN, ""))
        rows.append((_title(layer), _cells(_numbers(layer))))
        above = layer.gradient_out
    left = max(len(title) for title, _ in rows)
    lines = [f"loss {trace.loss:.6g} ({trace.loss_name})"]
    lines += [f"  {title:{left}}{numbers}".rstrip() for title, numbers in rows]
    lines.append("input")
    lines += [f"warning: {warning}" for warning in trace.warnings]
    return "\n".join(lines)


def _title(layer: LayerTrace) -> str:
    sizes = f" {layer.in_features}-{layer.out_features}" if layer.kind == "Linear" else ""
    return f"{layer.name}: {layer.kind}{sizes}"


def _numbers(layer: LayerTrace) -> Iterator[str]:
    yield _show(layer.value_rms, "{:.3g}")
    yield _show(layer.zero_share, "{:.0%}")
    yield _show(layer.dead_share, "{:.0%}")
    yield _show(layer.gradient_in, "{:.2e}")
    yield _show(layer.gradient_out, "{:.2e}")
    yield _show(layer.factor, "{:.3g}")
    yield _show(layer.weight_norm, "{:.3g}")
    yield _show(layer.weight_gradient_norm, "{:.2e}")
    yield _show(layer.error_share, "{:.0%}")
    yield _show(layer.update_ratio, "{:.1e}")


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(texts, _WIDTHS, strict=True))


def _group_line() -> str:
    widths = list(_WIDTHS)
    line = ""
    for name, count in _GROUPS:
        line += f"{name:>{sum(widths[:count])}}"
        del widths[:count]
    return line


def _differ(above: float | None, below: float | None) -> bool:
    """Whether something that is no layer of the trace lies between two gradients."""
    if above is None or below is None:
        return False
    return not math.isclose(above, below, rel_tol=1e-6) and not math.isnan(above + below)
