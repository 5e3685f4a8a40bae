"""The arguments with which PyTorch tests its own linear layer, through ours."""

import pytest
import torch
from functions import assert_close, plain_layer
from models import PlainLinearReLU, gradients, with_input
from tolerance import assert_within
from torch.autograd import gradcheck, gradgradcheck
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

from pyfastnn import MLP, LinearReLU
from pyfastnn.functional import linear_relu, mlp
from pyfastnn.reference import bounded_fprop, bounded_mlp_backward

LINEAR = next(op for op in op_db if op.name == "nn.functional.linear")
MODULE = next(info for info in module_db if info.module_cls is torch.nn.Linear)


def one_layer(input, weight, bias=None):
    return mlp(input, [weight], [bias], activate_last=True)


FUNCTIONS = pytest.mark.parametrize("function", [linear_relu, one_layer])


def samples(dtype: torch.dtype) -> list[list[torch.Tensor]]:
    torch.manual_seed(0)
    found = list(LINEAR.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(found) >= 18 and not any(sample.kwargs for sample in found)
    found += [sample.noncontiguous() for sample in found]
    return [[sample.input, *sample.args] for sample in found]


@FUNCTIONS
def test_values_and_gradients_are_within_the_bound(isa, dtype, function):
    for arguments in samples(dtype):
        input, weight, bias = (*arguments, None)[:3]
        y = function(*arguments)
        detached = [None if t is None else t.detach() for t in (input, weight, bias)]
        assert_within(y.detach(), bounded_fprop(*detached), str(input.shape))
        grad = torch.randn_like(y)
        got = torch.autograd.grad(y, arguments, grad)
        right = bounded_mlp_backward(grad, detached[0], [detached[1]], [y.detach()], True)
        for ours, theirs in zip(got, right, strict=False):  # the bias may be missing
            assert_within(ours, theirs, str(input.shape))


@FUNCTIONS
def test_derivatives_of_first_and_second_order(function):
    for arguments in samples(torch.float64):
        assert_close(function(*arguments), plain_layer(*arguments))
        options = dict(check_batched_grad=True, fast_mode=True)
        assert gradcheck(function, arguments, check_forward_ad=True, **options)
        assert gradgradcheck(function, arguments, check_fwd_over_rev=True, **options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [LinearReLU, lambda k, n, **options: MLP([k, n], **options)])
def test_modules_take_the_arguments_of_linear(make, training):
    inputs = MODULE.module_inputs_func(MODULE, "cpu", torch.float64, True, training)
    assert len(inputs) >= 3
    for sample in inputs:
        arguments, options = sample.constructor_input.args, sample.constructor_input.kwargs
        options = {**options, "dtype": torch.float64}
        theirs = PlainLinearReLU(*arguments, **options).train(training)
        ours = make(*arguments, **options).train(training)
        if isinstance(ours, MLP):
            ours.append(torch.nn.ReLU())
            theirs = torch.nn.Sequential(torch.nn.Linear(*arguments, **options), torch.nn.ReLU())
        with_input(ours, theirs)
        (x,) = (*sample.forward_input.args, *sample.forward_input.kwargs.values())
        assert_close(ours(x), theirs(x))
        assert_close(gradients(ours, x), gradients(theirs, x))
