"""How the operators run on ``DTensor``, registered with the dispatcher on import.

Along each dimension of the device mesh the processes share a layer in one of four ways:

========  =========  ========  ========  =========  =================  ===========  ============
way       input      weight    bias      output     gradient of input  of weight    of bias
========  =========  ========  ========  =========  =================  ===========  ============
rows      Shard(d)   whole     whole     Shard(d)   Shard(d)           Partial      Partial
columns   whole      Shard(0)  Shard(0)  Shard(-1)  Partial            Shard(0)     Shard(0)
features  Shard(-1)  Shard(1)  whole     whole      Shard(-1)          Shard(1)     whole
whole     whole      whole     whole     whole      whole              whole        whole
========  =========  ========  ========  =========  =================  ===========  ============

An input that is sharded along a dimension d other than the last takes the first way, else the
weight decides. A network runs as one call where all its layers go by rows or whole; then a process
talks to others only to get what it lacks. Otherwise it runs layer by layer. Features sum products
over the processes, before bias and ReLU.

Only ``redistribute`` moves data, and the kernels see plain tensors. Importing this module imports
``torch.distributed.tensor``, which takes much longer than the rest of pyfastnn;
:mod:`pyfastnn.functional` imports it when a DTensor arrives.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

_ops = torch.ops.pyfastnn


class _Way(NamedTuple):
    """Placements along one dimension of the mesh, or lists of them along all."""

    input: Any
    weight: Any
    bias: Any
    product: Any  # of input and weight; what differs from `output` has to be summed
    output: Any
    grad_input: Any
    grad_weight: Any
    grad_bias: Any


def _way(input: Any, weight: Any, last: int) -> _Way:
    """Choose a way along one dimension of the mesh; ``last`` is the last dimension of the input."""
    whole, part = Replicate(), Partial()
    if isinstance(input, Shard) and input.dim != last:
        return _Way(input, whole, whole, input, input, input, part, part)
    if weight == Shard(0):
        columns = Shard(last)
        return _Way(whole, weight, weight, columns, columns, part, weight, weight)
    if weight == Shard(1):
        features = Shard(last)
        return _Way(features, weight, whole, part, whole, features, weight, whole)
    return _Way(*[whole] * 8)


def _ways(input: Any, weight: Any) -> _Way:
    """Choose a way along every dimension of the mesh."""
    along = zip(input.placements, weight.placements, strict=True)
    return _Way(*map(list, zip(*(_way(x, w, input.dim() - 1) for x, w in along), strict=True)))


def _one_way(input: Any, weights: Sequence[Any]) -> _Way | None:
    """The way of all layers, if a process has whole layers for whole rows; else None."""
    first, *others = (_ways(input, weight) for weight in weights)
    has_all = first.weight == [Replicate()] * len(first.weight)
    return first if has_all and all(way == first for way in others) else None


def _check(op: Any, *tensors: Any) -> None:
    present = [tensor for tensor in tensors if tensor is not None]
    meshes = [getattr(tensor, "device_mesh", "none: a plain tensor") for tensor in present]
    for mesh in meshes:
        if mesh != meshes[0] or isinstance(mesh, str):
            name = op.__name__.split(".")[0]
            raise RuntimeError(
                f"{name}: expected all tensors to be DTensors on one device mesh, got meshes "
                f"{', '.join(map(str, meshes))}"
            )


def _meta(tensor: Any) -> Any:
    """The same sizes as a plain tensor without data, for checks and results of the whole."""
    return None if tensor is None else torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _piece(tensor: Any, placements: list[Any]) -> Any:
    return None if tensor is None else tensor.redistribute(placements=placements).to_local()


def _join(piece: Tensor, input: Any, placements: list[Any], whole: Tensor) -> Any:
    """The DTensor with the sizes of ``whole`` of which this process has computed ``piece``."""
    return DTensor.from_local(
        piece, input.device_mesh, placements, shape=whole.shape, stride=whole.stride()
    )


def _layer(input: Any, weight: Any, bias: Any, activate: bool) -> Any:
    way = _ways(input, weight)
    whole = _ops.mlp(_meta(input), [_meta(weight)], [_meta(bias)], activate)
    x, w, b = _piece(input, way.input), _piece(weight, way.weight), _piece(bias, way.bias)
    if way.product == way.output:
        return _join(_ops.mlp(x, [w], [b], activate), input, way.output, whole)
    product = _join(_ops.mlp(x, [w], [None], False), input, way.product, whole)
    output = _piece(product, way.output)
    if b is not None:
        output = output + b
    return _join(torch.relu(output) if activate else output, input, way.output, whole)


def _layers(input: Any, weights: Any, biases: Any, activate_last: bool) -> list[Any]:
    outputs = [input]
    for weight, bias in zip(weights, biases, strict=True):
        activate = activate_last or len(outputs) < len(weights)
        outputs.append(_layer(outputs[-1], weight, bias, activate))
    return outputs[1:]


def _linear_relu(op: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    _check(op, input, weight, bias)
    op(_meta(input), _meta(weight), _meta(bias))
    return _layer(input, weight, bias, True)


def _network(op: Any, input: Any, weights: Any, biases: Any, activate_last: bool) -> list[Any]:
    """Run mlp or mlp_forward; returns the output of the last layer, or of all, in a list."""
    _check(op, input, *weights, *biases)
    whole = op(_meta(input), [*map(_meta, weights)], [*map(_meta, biases)], activate_last)
    way = _one_way(input, weights)
    if way is None:
        return _layers(input, weights, biases, activate_last)
    outputs = op(
        _piece(input, way.input),
        [_piece(weight, way.weight) for weight in weights],
        [_piece(bias, way.bias) for bias in biases],
        activate_last,
    )
    if isinstance(outputs, Tensor):
        outputs, whole = [outputs], [whole]
    return [_join(piece, input, way.output, w) for piece, w in zip(outputs, whole, strict=True)]


def _mlp(op: Any, input: Any, weights: Any, biases: Any, activate_last: bool = False) -> Any:
    return _network(op, input, weights, biases, activate_last)[-1]


def _backward(
    way: _Way,
    grad_output: Any,
    input: Any,
    weights: Sequence[Any],
    outputs: Sequence[Any],
    activate_last: bool,
    needs_grad: Sequence[bool],
) -> list[Any]:
    """Run mlp_backward for layers that all go one way."""
    rest = activate_last, needs_grad
    metas = [*map(_meta, weights)], [*map(_meta, outputs)]
    whole = _ops.mlp_backward(_meta(grad_output), _meta(input), *metas, *rest)
    grads = _ops.mlp_backward(
        _piece(grad_output, way.output),
        _piece(input, way.input),
        [_piece(weight, way.weight) for weight in weights],
        [_piece(output, way.output) for output in outputs],
        *rest,
    )
    placements = [way.grad_input, *[way.grad_weight, way.grad_bias] * len(weights)]
    wanted = [p for p, needed in zip(placements, needs_grad, strict=True) if needed]
    return [
        _join(grad, input, placement, w)
        for grad, placement, w in zip(grads, wanted, whole, strict=True)
    ]


def _mlp_backward(
    op: Any,
    grad_output: Any,
    input: Any,
    weights: Sequence[Any],
    outputs: Sequence[Any],
    activate_last: bool,
    needs_grad: Sequence[bool],
) -> list[Any]:
    _check(op, input, grad_output, *weights, *outputs)
    way = _one_way(input, weights)
    if way is not None:
        return _backward(way, grad_output, input, weights, outputs, activate_last, needs_grad)
    grads: list[Any] = []
    grad, inputs = grad_output, [input, *outputs]
    for layer in reversed(range(len(weights))):
        first = 1 + 2 * layer
        needs = [any(needs_grad[:first]), *needs_grad[first : first + 2]]
        if not any(needs):
            break
        x, weight, mask = inputs[layer], weights[layer], outputs[layer : layer + 1]
        found = _backward(_ways(x, weight), grad, x, [weight], mask, bool(mask), needs)
        if needs[0]:
            grad = found.pop(0)
        grads = found + grads
    return [grad, *grads] if needs_grad[0] else grads


def _register(name: str, rule: Callable[..., Any]) -> None:
    def run(cls: type, op: Any, types: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        with torch.no_grad():  # autograd has a node for the call already
            return rule(op, *args, **kwargs)

    torch.library.register_torch_dispatch(f"pyfastnn::{name}", DTensor, run)


_register("linear_relu", _linear_relu)
_register("mlp", _mlp)
_register("mlp_forward", _network)
_register("mlp_backward", _mlp_backward)
