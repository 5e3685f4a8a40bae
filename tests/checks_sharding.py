"""The operators and modules on DTensors, in two processes: values, gradients and placements."""

import itertools

import pytest
import torch
from cases import Arguments, Size, draw
from functions import assert_close, flat, plain_layer, plain_mlp
from processes import WORLD, Checks
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.distributed.tensor.debug import CommDebugMode

from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.functional import linear_relu, mlp

PLACEMENTS = {"R": Replicate(), "S0": Shard(0), "S1": Shard(1), "S2": Shard(2)}
checks = Checks()


def mesh(*shape: int):
    return init_device_mesh("cpu", shape or (WORLD,))


def place(tensor: Tensor | None, names: str, on=None) -> DTensor | None:
    """Distribute: "S0" over the two processes, "S0 R" over a mesh of two dimensions."""
    if tensor is None:
        return None
    placements = [PLACEMENTS[name] for name in names.split()]
    return distribute_tensor(tensor.detach(), on or mesh(), placements).requires_grad_()


def whole_gradients(function, *arguments: Tensor | None) -> list[Tensor]:
    """Output and gradients, as whole tensors, for a gradient that is whole on every process."""
    leaves = [argument for argument in arguments if argument is not None]
    output = function(*arguments)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(output.shape, dtype=torch.float64, generator=generator)
    if isinstance(output, DTensor):
        on = output.device_mesh
        grad = distribute_tensor(grad, on, [Replicate()] * on.ndim)
    results = [output, *torch.autograd.grad(output, leaves, grad)]
    return [r.full_tensor() if isinstance(r, DTensor) else r for r in results]


def assert_right(function, plain, placed: list, arguments: list) -> None:
    want = whole_gradients(plain, *(a if a is None else a.requires_grad_() for a in arguments))
    got = whole_gradients(function, *placed)
    assert_close(got, [tensor.detach() for tensor in want])


# Sizes of input and output that two processes share evenly, unevenly, and so that one has nothing.
SHAPES = [((4, 6), 6), ((5, 7), 7), ((1, 1), 1), ((0, 3), 2), ((3, 2, 5), 3), ((7,), 5)]


@checks(*itertools.product(("R", "S0", "S1", "S2"), ("R", "S0", "S1"), ("R", "S0", "no bias")))
def linear_relu_is_right_for_every_placement(input, weight, bias):
    for shape, features in SHAPES:
        if int(input[1:] or 0) >= len(shape):
            continue
        torch.manual_seed(0)
        x = torch.randn(shape, dtype=torch.float64)
        w = torch.randn(features, shape[-1], dtype=torch.float64)
        b = None if bias == "no bias" else torch.randn(features, dtype=torch.float64)
        placed = [place(x, input), place(w, weight), place(b, bias)]
        assert_right(linear_relu, plain_layer, placed, [x, w, b])
        if shape == (5, 7):
            assert_right(LinearReLUFunction.apply, plain_layer, placed, [x, w, b])


def fused_mlp(activate_last: bool, function):
    def run(input, *parameters):
        if function == "MLPFunction":
            return MLPFunction.apply(input, activate_last, *parameters)
        return mlp(input, parameters[::2], parameters[1::2], activate_last)

    return run


@checks(
    *itertools.product(
        ("R", "S0", "S1"),
        ("R R R", "S0 S1 S0", "S0 S0 S0", "S1 S1 S1", "R R S1", "R S0 R", "S0 S1", "S0", "S1"),
    )
)
def mlp_is_right_for_every_plan(input, plan):
    weights = plan.split()
    for rows, bias, last in ((5, True, False), (1, False, True)):
        arguments = draw(Size(rows, (5, 7, 4, 3)[: len(weights) + 1]), torch.float64, bias)
        placed = [place(arguments.input, input)]
        for w, b, name in zip(arguments.weights, arguments.biases, weights, strict=True):
            placed += [place(w, name), place(b, "S0" if name == "S0" else "R")]

        def plain(*args, last=last):
            return plain_mlp(*args, activate_last=last)

        for function in ("mlp", "MLPFunction"):
            assert_right(fused_mlp(last, function), plain, placed, flat(arguments))


@checks(*itertools.product((0, 1), ("S0 R", "R S0", "S0 S0", "R S1"), ("R R", "R S0", "R S1")))
def a_mesh_of_two_dimensions_is_right(which, input, weight):
    on = mesh(2, 1) if which == 0 else mesh(1, 2)
    arguments = draw(Size(5, (5, 7, 3)), torch.float64)
    placed = [place(arguments.input, input, on)]
    for w, b in zip(arguments.weights, arguments.biases, strict=True):
        placed += [place(w, weight, on), place(b, "R R", on)]
    assert_right(fused_mlp(False, "mlp"), plain_mlp, placed, flat(arguments))


@checks(*itertools.product([True, False], repeat=3))
def only_wanted_gradients_of_a_divided_network_are_computed(*wanted):
    arguments = draw(Size(5, (5, 7, 3)), torch.float64)
    placed = [place(t, p) for t, p in zip(flat(arguments), "R S0 S0 S1 R".split(), strict=True)]
    grads = []
    for tensors, function in ((placed, fused_mlp(True, "mlp")), (flat(arguments), plain_mlp)):
        for tensor, wants in zip(tensors, (*wanted, True, False), strict=True):
            tensor.requires_grad_(wants)
        options = {"activate_last": True} if function is plain_mlp else {}
        function(*tensors, **options).sum().backward()
        grads.append([t.grad for t in tensors])
    for got, want in zip(*grads, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert_close(got.full_tensor(), want)


def place_all(arguments: Arguments, *names: str) -> list[DTensor]:
    return [place(t, name) for t, name in zip(flat(arguments), names, strict=True)]


def placements(output: DTensor, placed: list[DTensor]) -> list:
    return [t.placements[0] for t in (output, *torch.autograd.grad(output.sum(), placed))]


@checks(("S0", "R", "R"), ("R", "S0", "S0"), ("R", "R", "R"))
def results_are_placed_as_those_of_plain_layers(*names):
    placed = place_all(draw(Size(4, (6, 8)), torch.float64), *names)
    got, want = (placements(f(*placed), placed) for f in (linear_relu, plain_layer))
    assert got == want


@checks()
def data_parallel_gradients_wait_to_be_summed_and_nothing_is_sent():
    placed = place_all(draw(Size(4, (6, 8, 2)), torch.float64), "S0", "R", "R", "R", "R")
    with CommDebugMode() as sent:
        found = placements(fused_mlp(False, "mlp")(*placed), placed)
    assert found == [Shard(0), Shard(0), *[Partial()] * 4]
    assert sent.get_total_counts() == 0


@checks((0, "R", "S0", "S0"), (1, "S1", "S1", "R"))
def columns_send_nothing_and_features_only_their_sums(count, *names):
    placed = place_all(draw(Size(4, (6, 8)), torch.float64), *names)
    with CommDebugMode() as sent:
        output = linear_relu(*placed)
        torch.autograd.grad(output, placed, torch.ones_like(output))
    assert sent.get_total_counts() == count


@checks()
def wrong_arguments_are_refused_by_every_process():
    x, w, b = (torch.randn(shape) for shape in ((4, 6), (3, 7), (4,)))
    with pytest.raises(RuntimeError, match=r"linear_relu: expected weight of shape \[N, 6\]"):
        linear_relu(place(x, "S1"), place(w, "S1"))
    with pytest.raises(RuntimeError, match=r"mlp: expected biases\[0\] of shape \[3\]"):
        mlp(place(x, "R"), [place(w[:, :6], "S0")], [place(b, "S0")])
    for wrong in (w[:, :6], place(w[:, :6], "R R", mesh(1, 2))):
        with pytest.raises(RuntimeError, match="expected all tensors to be DTensors on one device"):
            linear_relu(place(x, "R"), wrong)
