"""explain_backward: the numbers of each layer, how they are printed, what is refused."""

import copy
import math

import pytest
import torch
from explained import by_hand, digits, network, total, trace_of
from torch import nn
from torch.nn import functional as F

import pyfastnn
from pyfastnn import explain_backward


@pytest.mark.parametrize("make", [nn.Module.train, pyfastnn.fuse], ids=["plain", "fused"])
def test_every_number_is_the_one_computed_by_hand(make):
    model, x = by_hand()
    trace = explain_backward(make(model), x, None, total, lr=0.1)
    # 0 gives [[-0.5, 1], [4.5, 2]], the ReLU [[0, 1], [4.5, 2]], 2 gives [[-1], [7]].
    last, relu, first = trace.layers
    assert [layer.name for layer in trace.layers] == ["2", "relu(0)", "0"]
    assert [layer.kind for layer in trace.layers] == ["Linear", "ReLU", "Linear"]
    assert (first.in_features, first.out_features, first.rows) == (2, 2, 2)
    assert (last.in_features, last.out_features, relu.out_features) == (2, 1, 2)
    assert trace.loss == 6 and trace.loss_name == "total"
    root = math.sqrt
    assert (last.value_rms, last.zero_share, last.dead_share) == (5, 0, None)
    assert relu.value_rms == pytest.approx(root(25.25 / 4))
    assert (relu.zero_share, relu.dead_share) == (0.25, 0)
    assert first.value_rms == pytest.approx(root(25.5 / 4)) and first.zero_share == 0
    # Gradients: [[1], [1]], [[2, -1], [2, -1]], [[0, -1], [2, -1]], [[-2, -1], [0, -3]].
    assert trace.output_gradient == last.gradient_in == pytest.approx(root(2))
    assert last.gradient_out == relu.gradient_in == pytest.approx(root(10))
    assert relu.gradient_out == first.gradient_in == pytest.approx(root(6))
    assert first.gradient_out == pytest.approx(root(14))
    assert first.factor == pytest.approx(root(14 / 6))
    # Gradients of the weights: [[4.5, 3]] and [[6, -2], [-4, -1]].
    assert (last.weight_norm, first.weight_norm) == pytest.approx((root(5), root(7)))
    assert last.weight_gradient_norm == pytest.approx(root(29.25))
    assert first.weight_gradient_norm == pytest.approx(root(57))
    assert first.error_share == pytest.approx(57 / 86.25)
    assert first.update_ratio == pytest.approx(0.1 * root(57 / 7))
    assert relu.weight_norm is relu.weight_gradient_norm is relu.update_ratio is None


def test_it_prints_a_call_stack_from_the_loss_to_the_input():
    model, x = by_hand()
    assert str(explain_backward(model, x, None, total, lr=0.1)).splitlines() == [
        "loss 6 (total)",
        "                         value units                      gradient"
        "                              weight",
        "                     rms  zero  dead   comes in   goes out  factor"
        "      norm  gradient  share   update",
        "  2: Linear 2-1        5    0%     -   1.41e+00   3.16e+00    2.24"
        "      2.24  5.41e+00    34%  2.4e-01",
        "  relu(0): ReLU     2.51   25%    0%   3.16e+00   2.45e+00   0.775"
        "         -         -      -        -",
        "  0: Linear 2-2     2.52    0%     -   2.45e+00   3.74e+00    1.53"
        "      2.65  7.55e+00    66%  2.9e-01",
        "input",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["MLP", "fused", "plain"])
def test_loss_and_weight_gradients_have_the_bits_of_the_models_own_backward(kind, dtype):
    model = network(dtype=dtype)
    if kind != "MLP":
        model = pyfastnn.unfuse(model)
    if kind == "fused":
        model = pyfastnn.fuse(model)
    x, target = digits()
    trace = explain_backward(model, x.to(dtype), target, F.cross_entropy)
    loss = F.cross_entropy(model(x.to(dtype)), target)
    loss.backward()
    assert trace.loss == loss.item()
    for layer in trace.layers:
        if layer.kind == "Linear":
            grad = model.get_submodule(layer.name).weight.grad
            assert layer.weight_gradient_norm == torch.linalg.vector_norm(grad.double()).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.Adam(p, lr=1e-3),
        lambda p: torch.optim.AdamW(p, lr=1e-3),
        lambda p: torch.optim.RMSprop(p, lr=1e-3),
    ],
)
def test_the_update_is_the_one_that_the_optimizer_then_makes(make):
    model = network()
    optimizer = make(model.parameters())
    step = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x, target = digits()
    for _ in range(3):
        state = copy.deepcopy(optimizer.state_dict())
        trace = trace_of(model, optimizer=optimizer)
        assert str(optimizer.state_dict()) == str(state)
        before = [child.weight.detach().clone() for child in model if isinstance(child, nn.Linear)]
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
        step.step()
        for name, old in zip("024", before, strict=True):
            moved = torch.linalg.vector_norm((model[int(name)].weight - old).double()).item()
            wanted = moved / torch.linalg.vector_norm(old.double()).item()
            assert trace[name].update_ratio == wanted


def test_an_optimizer_of_other_parameters_says_nothing_about_a_layer():
    model = network()
    trace = trace_of(model, optimizer=torch.optim.SGD([model[4].weight], lr=1.0))
    assert trace["0"].update_ratio is None
    plain = trace_of(model, lr=1.0)["4"].update_ratio
    assert trace["4"].update_ratio == pytest.approx(plain, rel=1e-5)


def test_scalars_are_the_numbers_of_the_layers():
    trace = trace_of(network(), lr=0.5)
    scalars = trace.scalars()
    assert scalars["loss"] == trace.loss
    assert scalars["2/gradient_in"] == trace["2"].gradient_in
    assert scalars["relu(0)/dead_share"] == trace["relu(0)"].dead_share
    assert scalars["4/update_ratio"] == trace["4"].update_ratio
    assert "relu(0)/weight_norm" not in scalars
    assert "0/update_ratio" not in trace_of(network()).scalars()


def test_shares_of_the_error_sum_to_one():
    shares = [layer.error_share for layer in trace_of(network()).layers]
    assert sum(share for share in shares if share is not None) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_what_cannot_be_explained_is_refused():
    model, (x, target) = network(), digits()
    loss_fn = nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match=r"to be an nn\.Module, got function"):
        explain_backward(total, x, target, loss_fn)
    with pytest.raises(TypeError, match="expected x to be a Tensor, got list"):
        explain_backward(model, [x], target, loss_fn)
    with pytest.raises(ValueError, match="expected lr or optimizer, got both"):
        trace_of(model, lr=0.1, optimizer=torch.optim.SGD(model.parameters()))
    with pytest.raises(ValueError, match=r"a tensor of one number, got \[32\]"):
        explain_backward(model, x, target, nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ValueError, match="a tensor of one number, got float"):
        explain_backward(model, x, target, lambda y, _: y.sum().item())
    with pytest.raises(ValueError, match="without a linear layer or ReLU that can be seen"):
        explain_backward(nn.Tanh(), x, target, loss_fn)
    with pytest.raises(ValueError, match="depends neither on x nor on a parameter"):
        explain_backward(model, x, target, lambda y, _: y.detach().sum())
    with pytest.raises(TypeError, match="TorchScript hides its layers"):
        explain_backward(torch.jit.trace(nn.Linear(20, 3), x), x, target, loss_fn)
    with pytest.raises(TypeError, match="a copy of LBFGS made no step"):
        trace_of(model, optimizer=torch.optim.LBFGS(model.parameters()))
