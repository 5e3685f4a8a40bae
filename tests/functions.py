"""The ways to call the operators, beside the plain PyTorch function they must agree with."""

import pytest
import torch
from cases import Arguments, Size, draw
from torch.nn import functional as F

from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.functional import linear_relu, mlp

SIZE = Size(3, (4, 6, 5, 2))


def plain_mlp(input, *parameters, activate_last=False):
    for layer, (w, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        input = F.linear(input, w, b)
        if activate_last or layer + 1 < len(parameters) // 2:
            input = torch.relu(input)
    return input


def fused_mlp(input, *parameters):
    return mlp(input, parameters[::2], parameters[1::2])


def function_mlp(input, *parameters):
    return MLPFunction.apply(input, False, *parameters)


def plain_layer(input, weight, bias=None):
    return torch.relu(F.linear(input, weight, bias))


def function_layer(input, weight, bias=None):
    return LinearReLUFunction.apply(input, weight, bias)


MLPS = pytest.mark.parametrize("network", [fused_mlp, function_mlp])
LAYERS = pytest.mark.parametrize("layer", [linear_relu, function_layer])


def flat(arguments: Arguments) -> list[torch.Tensor | None]:
    pairs = zip(arguments.weights, arguments.biases, strict=True)
    return [arguments.input, *(tensor for pair in pairs for tensor in pair)]


def draw_smooth(size: Size, bias: bool = True) -> list[torch.Tensor | None]:
    """Float64 arguments without a sum so near 0 that a finite difference crosses the kink."""
    for seed in range(100):
        arguments = draw(size, torch.float64, bias, seed)
        h, nearest = arguments.input, 1.0
        for w, b in zip(arguments.weights, arguments.biases, strict=True):
            z = F.linear(h, w, b)
            nearest, h = min(nearest, z.abs().min().item()), torch.relu(z)
        if nearest > 1e-3:
            return flat(arguments.requires_grad())
    raise AssertionError("no seed gives smooth arguments")


def assert_close(got, want) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)  # float64 throughout
