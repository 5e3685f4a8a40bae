"""The functions that users call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pyfastnn.explain._record import Call, norm
from pyfastnn.explain._run import Pass, checked_model, outputs, run
from pyfastnn.explain._trace import BackwardTrace, LayerTrace
from pyfastnn.explain._updates import update_norms
from pyfastnn.explain._weight import Replay


def explain_backward(
    model: nn.Module,
    x: Tensor,
    target: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    lr: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> BackwardTrace:
    """Show what backward does, layer by layer: what each contributed to the error.

    Runs ``loss_fn(model(x), target)`` and its backward once and looks at every linear layer and
    every ReLU: how large its output is, how much of it is zero, which gradient comes to it from the
    loss, which it hands on, and how large the gradient of its weight is. Layers are found by the
    functions that run (``nn.Linear``, ``F.linear``, ``nn.ReLU``, ``F.relu``, ``x.relu()``,
    pyfastnn's own), so :class:`pyfastnn.MLP`, nested ``nn.Sequential``, models of
    :func:`pyfastnn.fuse` and forwards written by hand all work. Other operations may lie between
    them; the printed trace says where.

    A fused model runs its own kernels and gives its own bits, but one call for each layer, and the
    ReLU apart: inside of one fused call there would be nothing to see. Other models run as they
    are written.

    Nothing is changed: neither gradients, buffers, hooks and mode of the model nor the state of
    torch's random numbers. Hooks of the model run as in any call. The trace keeps a copy of the
    parameters and of the batch, for :meth:`BackwardTrace.weight`.

    Args:
        model: any ``nn.Module`` with one input, in the mode (training or evaluation) it is in. Of
            ``DistributedDataParallel`` the module inside is taken.
        x: its input.
        target: second argument of ``loss_fn``.
        loss_fn: loss module or function of ``(output, target)``.
        lr: learning rate of plain gradient descent, for ``update_ratio``.
        optimizer: the optimizer instead; a step is tried on a copy of it.

    Returns:
        A :class:`BackwardTrace`; ``print`` it, or read its ``layers``.

    Raises:
        TypeError: if ``model`` is not a module or is TorchScript, ``x`` is not a tensor, or the
            optimizer cannot make a step with gradients alone.
        ValueError: if both ``lr`` and ``optimizer`` are given, ``loss_fn`` does not return one
            number, or no layer was seen.

    Example:
        >>> model = pyfastnn.MLP([784, 128, 64, 10])
        >>> x, digits = torch.randn(64, 784), torch.randint(10, (64,))
        >>> trace = explain_backward(model, x, digits, nn.CrossEntropyLoss(), lr=0.1)
        >>> print(trace)  # doctest: +SKIP
        >>> print(trace.weight("0", 3, 5))  # doctest: +SKIP
    """
    model = checked_model(model, "explain_backward")
    if not isinstance(x, Tensor):
        raise TypeError(f"explain_backward: expected x to be a Tensor, got {type(x).__name__}")
    if lr is not None and optimizer is not None:
        raise ValueError("explain_backward: expected lr or optimizer, got both")
    replay = Replay(model, x, target, loss_fn)
    done = run(model, x, target, loss_fn, "explain_backward")
    updates = update_norms(optimizer, done.gradients) if optimizer is not None else {}
    gradients = _weight_gradients(done)
    total = sum({id(g): norm(g) ** 2 for g in gradients.values()}.values())
    layers = []
    for call in reversed(done.calls):
        layer = _layer(call, gradients.get(call.name), total)
        update = updates.get(id(call.weight))
        if lr is not None and layer.weight_gradient_norm is not None:
            update = lr * layer.weight_gradient_norm
        if update is not None and layer.weight_norm:
            layer = replace(layer, update_ratio=update / layer.weight_norm)
        layers.append(layer)
    by_id = {id(parameter): path for path, parameter in model.named_parameters()}
    paths = {call.name: by_id.get(id(call.weight)) for call in done.calls}
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    loss = float(done.loss.detach())
    return BackwardTrace(loss, name, layers, done.end.gradient_in, gradients, paths, replay)


def layer_outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a model and return what every linear layer and every ReLU gave out.

    Nothing is changed, as in :func:`explain_backward`.

    Args:
        model: any ``nn.Module`` with one input.
        x: its input.

    Returns:
        Outputs by name, in the order in which the layers ran, without gradients. The names are
        those of :class:`pyfastnn.explain.LayerTrace`: ``"0"`` and ``"relu(0)"`` in an
        :class:`pyfastnn.MLP`.

    Raises:
        TypeError: if ``model`` is not a module, or is TorchScript.

    Example:
        >>> model = pyfastnn.MLP([784, 128, 64, 10])
        >>> list(layer_outputs(model, torch.randn(32, 784)))
        ['0', 'relu(0)', '2', 'relu(2)', '4']
    """
    return outputs(checked_model(model, "layer_outputs"), x)


def _weight_gradients(done: Pass) -> dict[str, Tensor]:
    """Return the gradient of the weight of every call that has one."""
    found = {}
    for call in done.calls:
        gradient = done.gradients.get(id(call.weight), call.weight_gradient)
        if gradient is not None:
            found[call.name] = gradient
    return found


def _layer(call: Call, gradient: Tensor | None, total: float) -> LayerTrace:
    gradient_norm = None if gradient is None else norm(gradient)
    return LayerTrace(
        name=call.name,
        kind=call.kind,
        in_features=call.in_features,
        out_features=call.out_features,
        rows=call.rows,
        value_rms=call.value_rms,
        zero_share=call.zero_share,
        dead_share=call.dead_share,
        gradient_in=call.gradient_in,
        gradient_out=call.gradient_out,
        weight_norm=None if call.weight is None else norm(call.weight),
        weight_gradient_norm=gradient_norm,
        error_share=gradient_norm**2 / total if gradient_norm is not None and total else None,
        update_ratio=None,
    )
