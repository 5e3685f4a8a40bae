"""What every provider must compute, in numpy float64, and how far from it a result may be.

A provider whose results do not pass is refused before anything is timed. The bounds are not picked
by hand: a product summed over K terms in float32 may be off by ``sqrt(K) eps |x| |w|`` (Higham and
Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019; norms by Cauchy-Schwarz), and
storing a result in the dtype of the cell costs up to ``eps`` of its size.
"""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import LEARNING_RATE, Arrays
from benchmarks.shapes import Cell

EPS_SUM = 2.0**-23
EPS_STORE = {"float32": 2.0**-23, "bfloat16": 2.0**-7}


class WrongResultError(RuntimeError):
    """A provider computed something else than the float64 reference."""


class Reference:
    """What one cell must give.

    Args:
        cell: the workload.
        inputs: what `make_inputs` gave.
    """

    def __init__(self, cell: Cell, inputs: Arrays) -> None:
        self._cell = cell
        self._inputs = inputs
        # The same for every provider, and of large networks the longest part of a check.
        self._network = None if cell.is_layer else _network(cell, inputs)

    def check(self, results: Arrays, provider: str) -> None:
        """Compare the results of one call with float64 and refuse what is wrong; see `check`."""
        cell = self._cell
        expected = self._network or _layer(cell, self._inputs, results)
        for name, (want, bound) in expected.items():
            _compare(cell, name, want, bound, results, provider)


def check(cell: Cell, inputs: Arrays, results: Arrays, provider: str) -> None:
    """Compare the results of one call with float64 and refuse what is wrong.

    Args:
        cell: the workload.
        inputs: what `make_inputs` gave.
        results: for layers ``output`` and, with backward, ``grad_input``, ``grad_weight``,
            ``grad_bias``; for networks ``output``, or after a training step ``loss`` and the new
            ``weight.i`` and ``bias.i``, optionally the gradients ``grad_weight.i``, ``grad_bias.i``
            (a provider that fuses the update has none to show).
        provider: its name, for the message.

    Raises:
        WrongResultError: if a result is missing, has another shape, or is outside its bound.
    """
    Reference(cell, inputs).check(results, provider)


def _compare(
    cell: Cell,
    name: str,
    want: np.ndarray,
    bound: np.ndarray | float,
    results: Arrays,
    provider: str,
) -> None:
    if name not in results:
        if cell.mode == "train_step" and name.startswith("grad_"):
            return
        raise WrongResultError(f"{provider}: {cell.id}: expected a result {name!r}, got none")
    got = np.asarray(results[name], np.float64)
    if got.shape != want.shape:
        raise WrongResultError(
            f"{provider}: {cell.id}: expected {name} of shape {list(want.shape)}, "
            f"got {list(got.shape)}"
        )
    # Layers have a bound for each element, networks one for the norm of the whole difference.
    error = np.abs(got - want) if np.ndim(bound) else np.linalg.norm(got - want)
    if not np.all(error <= bound):  # NaN must not pass
        worst = np.nanmax(error / np.maximum(bound, np.finfo(float).tiny))
        raise WrongResultError(
            f"{provider}: {cell.id}: {name} differs from float64 by {worst:.3g} times what "
            f"rounding can explain; refusing to time it"
        )


Expected = dict[str, tuple[np.ndarray, np.ndarray | float]]


def _product(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """``a @ b.T + bias`` in float64 and the elementwise bound of its error; a [m, k], b [n, k]."""
    value = a @ b.T
    size = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    if bias is not None:
        value += bias
        size += np.abs(bias)
    return value, a.shape[1] ** 0.5 * EPS_SUM * size + EPS_STORE[dtype] * np.abs(value)


def _layer(cell: Cell, inputs: Arrays, results: Arrays) -> Expected:
    x, w, b = (inputs[name].astype(np.float64) for name in ("input", "weight.0", "bias.0"))
    z, bound = _product(x, w, b, cell.dtype)
    expected: Expected = {"output": (np.maximum(z, 0), bound)}
    if cell.mode == "fprop_backward" and "output" in results:
        # The provider's own output is the mask: at |z| within rounding of 0 either side is right.
        dz = inputs["grad_output"] * (results["output"] > 0).astype(np.float64)
        ones = np.ones((1, cell.batch))
        expected["grad_input"] = _product(dz, w.T, None, cell.dtype)
        expected["grad_weight"] = _product(dz.T, x.T, None, cell.dtype)
        grad_bias, bound = _product(dz.T, ones, None, cell.dtype)
        expected["grad_bias"] = (grad_bias[:, 0], bound[:, 0])
    return expected


def _network(cell: Cell, inputs: Arrays) -> Expected:
    depth = len(cell.sizes) - 1
    weights = [inputs[f"weight.{i}"].astype(np.float64) for i in range(depth)]
    biases = [inputs[f"bias.{i}"].astype(np.float64) for i in range(depth)]
    values = [inputs["input"].astype(np.float64)]
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = values[-1] @ w.T + b
        values.append(z if i == depth - 1 else np.maximum(z, 0))
    logits = values[-1]
    # Relative error of the activations, added up over the layers.
    eps = EPS_STORE[cell.dtype]
    forward = depth * (max(cell.sizes[:-1]) ** 0.5 * EPS_SUM + eps)
    if cell.mode == "forward":
        return {"output": (logits, forward * float(np.linalg.norm(logits)))}

    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(cell.batch)
    loss = -log_softmax[rows, inputs["target"]].mean()
    dz = np.exp(log_softmax)
    dz[rows, inputs["target"]] -= 1
    dz /= cell.batch
    # A ReLU within rounding of zero may flip. A flipped share f of the entries moves a gradient by
    # sqrt(f) of its norm, and f is about the relative error of the activations.
    backward = forward**0.5
    expected: Expected = {"loss": (np.asarray(loss), forward * max(1.0, abs(loss)))}
    for i in reversed(range(depth)):
        for name, old, grad in (
            (f"weight.{i}", weights[i], dz.T @ values[i]),
            (f"bias.{i}", biases[i], dz.sum(axis=0)),
        ):
            allowed = backward * float(np.linalg.norm(grad))
            new = old - LEARNING_RATE * grad
            rounding = eps * float(np.linalg.norm(new))
            expected[f"grad_{name}"] = (grad, allowed)
            expected[name] = (new, LEARNING_RATE * allowed + rounding)
        dz = (dz @ weights[i]) * (values[i] > 0)
    return expected
