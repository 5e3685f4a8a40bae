"""BackwardTrace.weight: what the gradient says about one weight, and what the loss does."""

import pytest
import torch
from explained import digits, network, total, trace_of
from torch import Tensor, nn
from torch.nn import functional as F

from pyfastnn import explain_backward


@pytest.mark.parametrize("layer", ["0", "2", "4"])
def test_the_gradient_predicts_what_the_loss_does(layer):
    model = network(dtype=torch.float64)
    x, target = digits()
    trace = explain_backward(model, x.double(), target, nn.CrossEntropyLoss())
    F.cross_entropy(model(x.double()), target).backward()
    weight = model.get_submodule(layer).weight
    for i, j in [(0, 0), (2, 5), (-1, -1)]:
        check = trace.weight(layer, i, j)
        assert check.gradient == weight.grad[i, j].item()
        assert check.value == weight[i, j].item()
        assert check.switched == 0
        # The third derivative times change**2 / 6, and rounding of the loss divided by change.
        assert abs(check.slope - check.gradient) < 1e-9
        assert check.predicted == check.gradient * 1e-5
        assert check.actual == check.slope * 1e-5
        assert check.difference == check.actual - check.predicted


def test_a_weight_is_moved_in_float64_whatever_the_model_has():
    for dtype, bound in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        x, target = digits()
        trace = explain_backward(
            network(dtype=dtype),
            x.to(dtype),
            target,
            nn.CrossEntropyLoss(torch.ones(3, dtype=dtype)),
        )
        check = trace.weight("0", 1, 2)
        assert check.gradient != check.slope
        assert abs(check.gradient - check.slope) < bound * trace["0"].weight_gradient_norm


def test_a_kink_between_the_two_places_is_counted():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.zeros_(model[0].weight)
    check = explain_backward(model, torch.ones(3, 1), None, total).weight("0", 0, 0, 0.5)
    assert (check.gradient, check.slope, check.switched) == (0, 1.5, 3)
    assert str(check).splitlines() == [
        "0.weight[0, 0] = 0, moved by 0.5",
        "  the gradient predicts that the loss changes by +0.000000e+00",
        "  it really changes by                           +7.500000e-01",
        "  difference                                     +7.5e-01",
        "  3 values of ReLUs switch on or off on the way",
    ]


def test_a_weight_is_checked_where_it_was_when_the_trace_was_made():
    model = network()
    trace = trace_of(model)
    before = trace.weight("2", 1, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    assert trace.weight("2", 1, 1) == before
    assert trace_of(model).weight("2", 1, 1) != before


def test_random_numbers_are_the_same_when_a_weight_is_moved():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(30), nn.Linear(30, 3)
    ).double()
    x, target = digits()
    trace = explain_backward(model, x.double(), target, nn.CrossEntropyLoss())
    torch.rand(5)
    check = trace.weight("0", 4, 4)
    assert abs(check.slope - check.gradient) < 1e-9 < abs(check.slope)


def test_weights_that_cannot_be_moved_are_refused():
    model = network()
    trace = trace_of(model)
    with pytest.raises(KeyError, match=r"no layer 'fc' in this trace; there are 0, relu\(0\), 2, "):
        trace.weight("fc", 0, 0)
    with pytest.raises(ValueError, match=r"relu\(0\) has no weight with a gradient"):
        trace.weight("relu(0)", 0, 0)
    with pytest.raises(IndexError):
        trace.weight("4", 3, 0)
    model[0].requires_grad_(False)
    frozen = trace_of(model)
    assert frozen["0"].weight_gradient_norm is None and frozen["0"].gradient_out > 0
    with pytest.raises(ValueError, match="0 has no weight with a gradient"):
        frozen.weight("0", 0, 0)


def test_a_loss_with_parameters_of_the_model_is_traced_but_not_moved():
    model = network()

    def decayed(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) + model[0].weight.square().sum()

    trace = explain_backward(model, *digits(), decayed)
    decayed(model(digits()[0]), digits()[1]).backward()
    norm = torch.linalg.vector_norm(model[0].weight.grad.double()).item()
    assert trace["0"].weight_gradient_norm == pytest.approx(norm)
    with pytest.raises(ValueError, match="loss_fn uses parameters of the model itself"):
        trace.weight("0", 0, 0)
