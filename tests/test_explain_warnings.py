"""Warnings of a backward trace, and its way to TensorBoard and into a picture."""

import math
import sys

import pytest
import torch
from explained import digits, network, total, trace_of
from torch import nn

import pyfastnn
from pyfastnn import BackwardLogger, explain_backward


def test_warnings_name_dead_units_only_where_there_are_rows_enough():
    model = network()
    assert trace_of(model).warnings == []
    with torch.no_grad():
        model[0].bias[:9] = -100
    (warning,) = trace_of(model).warnings
    assert (warning.kind, warning.layer) == ("dead", "relu(0)")
    trace = trace_of(model)
    assert f"{round(trace['relu(0)'].dead_share * 30)} of 30 units" in str(warning)
    assert str(trace).endswith(f"input\nwarning: {warning}")
    x, target = digits()
    few = explain_backward(model, x[:15], target[:15], nn.CrossEntropyLoss())
    assert few["relu(0)"].dead_share >= 9 / 30 and few.warnings == []


def test_dead_units_are_counted_over_all_leading_dimensions():
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, math.nan]))
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [-1.0]]])
    trace = explain_backward(model, x, None, total)
    assert trace["relu(0)"].dead_share == 0.25  # NaN is not dead
    assert trace["relu(0)"].rows == 4


@pytest.mark.parametrize(("scale", "kind"), [(0.1, "vanishing"), (20.0, "exploding")])
def test_warnings_name_the_first_layer_behind_which_the_gradient_is_lost(scale, kind):
    torch.manual_seed(0)
    model = pyfastnn.MLP([20] * 9 + [3])
    with torch.no_grad():
        for child in model:
            if isinstance(child, nn.Linear):
                child.weight.mul_(scale)
    trace = trace_of(model)
    (warning,) = [warning for warning in trace.warnings if warning.kind == kind]
    start = trace.layers[0].gradient_in
    beyond = [
        layer.gradient_out / start < 1e-3
        if kind == "vanishing"
        else layer.gradient_out / start > 1e3
        for layer in trace.layers
    ]
    assert warning.layer == trace.layers[beyond.index(True)].name
    assert 0 < beyond.index(True) < len(beyond) - 1


def test_a_gradient_that_is_not_finite_is_named():
    model = network()
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    assert [w.kind for w in trace_of(model).warnings] == ["not finite"]
    with torch.no_grad():
        model[2].weight[0, 0] = 0
        model[0].weight[0, 0] = math.inf
    trace = explain_backward(model, torch.ones(32, 20), None, lambda y, _: y.square().mean())
    assert "not finite" in [w.kind for w in trace.warnings]


class Writer:
    """Takes what a SummaryWriter takes."""

    def __init__(self):
        self.scalars, self.texts = {}, {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value

    def add_text(self, tag, text, step):
        self.texts[tag, step] = text


def test_the_logger_writes_every_n_steps_the_numbers_of_a_trace():
    model, writer = network(), Writer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, target = digits()
    log = BackwardLogger(writer, model, nn.CrossEntropyLoss(), every=3, optimizer=optimizer)
    train = pyfastnn.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    written = {}
    for step in range(7):
        want = trace_of(model, optimizer=optimizer)
        trace = log(step, x, target)
        assert (trace is None) == (step % 3 > 0)
        if trace is not None:
            assert trace.scalars() == want.scalars()
            written |= {(f"backward/{name}", step): v for name, v in want.scalars().items()}
        train(x, target)
    assert writer.scalars == written and len({step for _, step in written}) == 3
    assert writer.texts == {}
    with torch.no_grad():
        model[0].bias.fill_(-100)
    assert len(log(9, x, target).warnings) >= 1
    assert "relu(0): 30 of 30 units" in writer.texts["backward/warnings", 9]


def test_the_logger_writes_files_that_tensorboard_reads(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = network()
    trace = BackwardLogger(tmp_path, model, nn.CrossEntropyLoss())(100, *digits())
    events = EventAccumulator(str(tmp_path)).Reload()
    for name, value in trace.scalars().items():
        (event,) = events.Scalars(f"backward/{name}")
        assert event.step == 100 and event.value == pytest.approx(value)


def test_the_logger_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="expected every to be 1 or more, got 0"):
        BackwardLogger(Writer(), network(), nn.CrossEntropyLoss(), every=0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="needs tensorboard: pip install tensorboard"):
        BackwardLogger("runs", network(), nn.CrossEntropyLoss())
