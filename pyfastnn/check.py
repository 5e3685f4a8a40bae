"""``python -m pyfastnn check``: are the kernels of this build right on this machine?

Every instruction set of the processor goes through

- values and gradients of every dtype against :mod:`pyfastnn.reference` in float64, each element
  within its error bound, and
- ``gradcheck`` and ``gradgradcheck`` in float64, which know nothing of our formulas.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from pyfastnn import functional, reference
from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.isa import available_isas, force_isa

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# (M, [features of the input, of every layer]): inside one register tile, over its edges, over the
# edge of a block of K = 256 and of the batch chunks of wgrad.
VALUE_SIZES: list[tuple[int, list[int]]] = [
    (1, [1, 1]),
    (3, [7, 5]),
    (13, [17, 33]),
    (33, [257, 65]),
    (257, [64, 16]),
    (1, [784, 128, 64, 10]),
    (65, [20, 32, 17, 3]),
]
SMALL_SIZES: list[tuple[int, list[int]]] = [(3, [5, 4]), (2, [4, 6, 5, 2])]
# gradcheck moves every element by itself: minutes for anything much larger than these.
GRADCHECK_SIZES = [*SMALL_SIZES, (13, [3, 17])]


class Network(NamedTuple):
    """One case: the arguments of ``functional.mlp``."""

    input: Tensor
    weights: list[Tensor]
    biases: list[Tensor | None]
    activate_last: bool

    @property
    def is_layer(self) -> bool:
        """Whether ``functional.linear_relu`` can run it."""
        return len(self.weights) == 1 and self.activate_last

    def arguments(self) -> list[Tensor | None]:
        """Return input, weight 0, bias 0, weight 1, ..."""
        pairs = zip(self.weights, self.biases, strict=True)
        return [self.input, *(tensor for pair in pairs for tensor in pair)]


class Row(NamedTuple):
    """One line of the table."""

    isa: str
    what: str
    cases: int
    worst: float | None  # largest error, as a part of its bound
    failures: list[str]


def make_network(
    rows: int, sizes: Sequence[int], dtype: torch.dtype, bias: bool, strided: bool, last: bool
) -> Network:
    """Draw random arguments from the global generator; ``strided`` ones are not contiguous."""

    def draw(*shape: int) -> Tensor:
        if not strided:
            return torch.randn(shape, dtype=torch.float64).to(dtype)
        wide = torch.randn([2 * size for size in reversed(shape)], dtype=torch.float64).to(dtype)
        return wide.permute(*reversed(range(len(shape))))[
            tuple([slice(None, None, 2)] * len(shape))
        ]

    layers = list(pairwise(sizes))
    weights = [draw(n, k) for k, n in layers]
    biases = [draw(n) if bias else None for _, n in layers]
    return Network(draw(rows, sizes[0]), weights, biases, last)


def _cases(sizes: list[tuple[int, list[int]]], dtype: torch.dtype) -> Iterator[tuple[str, Network]]:
    torch.manual_seed(0)
    for (rows, widths), bias, strided in product(sizes, (True, False), (False, True)):
        for last in (True, False):
            shape = f"{rows} rows of {'-'.join(map(str, widths))}"
            label = f"{shape}, bias={bias}, strided={strided}, activate_last={last}"
            yield label, make_network(rows, widths, dtype, bias, strided, last)


def worst_error(network: Network) -> float:
    """Return the largest error of values and gradients, as a part of its bound; NaN if one is NaN.

    Each layer is compared given what the kernel computed for the layer before it.
    """
    arguments = [
        None if tensor is None else tensor.detach().requires_grad_()
        for tensor in network.arguments()
    ]
    input, weights, biases = arguments[0], arguments[1::2], arguments[2::2]
    if network.is_layer:
        output = functional.linear_relu(input, weights[0], biases[0])  # type: ignore[arg-type]
    else:
        output = functional.mlp(input, weights, biases, network.activate_last)  # type: ignore[arg-type]
    hidden = (
        torch.ops.pyfastnn.mlp_forward(
            network.input, network.weights[:-1], network.biases[:-1], True
        )
        if len(network.weights) > 1
        else []
    )
    outputs = [*hidden, output.detach()]

    ratios: list[float] = []
    for layer, layer_input in enumerate([network.input, *hidden]):
        activate = network.activate_last or layer + 1 < len(outputs)
        weight, bias = network.weights[layer], network.biases[layer]
        right = reference.bounded_fprop(layer_input, weight, bias, activate)
        ratios.append(_ratio(outputs[layer], right))

    grad_output = torch.randn(output.shape, dtype=torch.float64).to(output.dtype)
    wanted = [tensor for tensor in arguments if tensor is not None]
    grads = iter(torch.autograd.grad(output, wanted, grad_output))
    activated = outputs if network.activate_last else hidden
    rights = reference.bounded_mlp_backward(
        grad_output, network.input, network.weights, activated, network.activate_last
    )
    for argument, right in zip(arguments, rights, strict=True):
        if argument is not None:
            ratios.append(_ratio(next(grads), right))
    return torch.tensor(ratios).max().item()  # unlike max(), keeps NaN


def _ratio(got: Tensor, right: reference.Bounded) -> float:
    error = (got.double() - right.value).abs()
    exact = (error == 0) & (right.bound == 0)
    return torch.where(exact, 0.0, error / right.bound).max().item()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def check_values(isa: str, dtype: torch.dtype) -> Row:
    """Compare values and gradients with the reference."""
    failures: list[str] = []
    errors: list[float] = []
    for label, network in _cases(VALUE_SIZES, dtype):
        try:
            errors.append(worst_error(network))
        except RuntimeError as error:
            errors.append(float("nan"))
            failures.append(f"{label}: {_first_line(error)}")
            continue
        if not errors[-1] <= 1:
            failures.append(f"{label}: error is {errors[-1]:.3g} of its bound")
    worst = torch.tensor(errors).max().item()
    name = str(dtype).removeprefix("torch.")
    return Row(isa, f"values and gradients, {name}", len(errors), worst, failures)


def _is_smooth(network: Network) -> bool:
    """Whether no sum is so close to 0 that a finite difference would step over the kink."""
    layer_input = network.input
    for weight, bias in zip(network.weights, network.biases, strict=True):
        z = reference.fprop(layer_input, weight, bias, activate=False)
        if z.abs().min() < 1e-4:
            return False
        layer_input = torch.relu(z)
    return True


def _functions(network: Network) -> list[tuple[str, Callable[..., Tensor]]]:
    last = network.activate_last

    def mlp(input: Tensor, *parameters: Tensor | None) -> Tensor:
        return functional.mlp(input, parameters[::2], parameters[1::2], last)  # type: ignore[arg-type]

    def mlp_function(input: Tensor, *parameters: Tensor | None) -> Tensor:
        return MLPFunction.apply(input, last, *parameters)

    functions: list[tuple[str, Callable[..., Tensor]]] = [
        ("functional.mlp", mlp),
        ("MLPFunction", mlp_function),
    ]
    if network.is_layer:
        functions.append(("functional.linear_relu", functional.linear_relu))
        functions.append(("LinearReLUFunction", LinearReLUFunction.apply))
    return functions


def check_gradients(
    isa: str, check: Callable[..., bool], sizes: list[tuple[int, list[int]]]
) -> Row:
    """Run gradcheck or gradgradcheck on every way to call the kernels."""
    failures: list[str] = []
    cases = 0
    for label, network in _cases(sizes, torch.float64):
        while not _is_smooth(network):
            network = network._replace(input=network.input.clone().normal_())
        arguments = [
            None if tensor is None else tensor.requires_grad_() for tensor in network.arguments()
        ]
        for function_name, function in _functions(network):
            cases += 1
            try:
                check(function, arguments)
            except RuntimeError as error:
                failures.append(f"{function_name}, {label}: {_first_line(error)}")
    return Row(isa, f"{check.__name__}, float64", cases, None, failures)


def rows() -> Iterator[Row]:
    """Run all checks, the slowest instruction set first."""
    for isa in available_isas():
        with force_isa(isa):
            for dtype in DTYPES:
                yield check_values(isa, dtype)
            yield check_gradients(isa, gradcheck, GRADCHECK_SIZES)
            yield check_gradients(isa, gradgradcheck, SMALL_SIZES)


def main() -> int:
    """Print the table; return 0 if everything is right, else 1."""
    line = "{:<15} {:<32} {:>5}  {:>11}  {}"
    print(line.format("instruction set", "what", "cases", "error/bound", "result"))
    failed = 0
    for row in rows():
        worst = "" if row.worst is None else f"{row.worst:.3f}"
        result = f"{len(row.failures)} FAILED" if row.failures else "ok"
        print(line.format(row.isa, row.what, row.cases, worst, result), flush=True)
        for failure in row.failures[:3]:
            print(f"    {failure}")
        failed += len(row.failures)
    print(f"{failed} checks FAILED" if failed else "all checks passed")
    return 1 if failed else 0
