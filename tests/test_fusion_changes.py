"""A fused model follows every change of what its forward reads."""

import fusion_models as models
import pytest
import torch
from test_fusion import assert_same_function, doubled, leaves, x
from torch import nn

import pyfastnn

CHANGES = {
    "flag": (lambda s, x: s.act(s.fc1(x)) * (2 if s.flag else 3), lambda m: setattr(m, "flag", 0)),
    "a number": (lambda s, x: s.act(s.fc1(x)) * s.width, lambda m: setattr(m, "width", 7.0)),
    "an attribute that was not there": (
        lambda s, x: s.act(s.fc1(x)) * getattr(s, "late", 1.0),
        lambda m: setattr(m, "late", 3.0),
    ),
    "whether it was there": (
        lambda s, x: s.act(s.fc1(x)) * (2 if hasattr(s, "late") else 1),
        lambda m: setattr(m, "late", 3.0),
    ),
    "a list": (lambda s, x: s.act(s.fc1(x)) * s.numbers[0], lambda m: m.numbers.insert(0, 9.0)),
    "a config": (
        lambda s, x: s.act(s.fc1(x)) * s.config.scale,
        lambda m: setattr(m.config, "scale", 5.0),
    ),
    "a function": (lambda s, x: s.function(s.fc1(x)), lambda m: setattr(m, "function", torch.tanh)),
    "an activation": (lambda s, x: s.act(s.fc1(x)), lambda m: setattr(m, "act", nn.Tanh())),
    "a layer": (
        lambda s, x: s.act(s.fc1(x)),
        lambda m: setattr(m, "fc1", nn.Linear(4, 5).double()),
    ),
    "a bias": (lambda s, x: s.act(s.fc1(x)), lambda m: setattr(m.fc1, "bias", None)),
    "whether there is a bias": (
        lambda s, x: s.act(s.fc1(x)) * (1 if s.fc1.bias is None else 2),
        lambda m: setattr(m.fc1, "bias", None),
    ),
    "a list of layers": (
        lambda s, x: s.act(s.layers[-1](x)),
        lambda m: m.layers.append(nn.Linear(4, 9).double()),
    ),
    "a parameter": (lambda s, x: s.act(s.fc1(x)), lambda m: m.fc1.weight.data.mul_(2)),
    "a tensor": (
        lambda s, x: s.act(s.layers[0](x)) * (s.plain * 2).sum(),
        lambda m: setattr(m, "plain", torch.full((4,), 8.0).double()),
    ),
    "a global": (
        lambda s, x: s.act(s.fc1(x)) * models.SCALE,
        lambda m: setattr(models, "SCALE", models.SCALE + 1),
    ),
    "a global dict": (
        lambda s, x: s.act(s.fc1(x)) * TABLE["scale"],
        lambda m: TABLE.update(scale=TABLE["scale"] + 1),
    ),
    "an attribute of the class": (
        lambda s, x: s.act(s.fc1(x)) * s.of_class,
        lambda m: setattr(Changing, "of_class", Changing.of_class + 1),
    ),
}
TABLE = models.TABLE


class Changing(models.Base):
    of_class = 2.0

    def __init__(self):
        super().__init__()
        self.width = 1.0


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_after_the_first_call_counts(what, monkeypatch):
    forward, change = CHANGES[what]
    monkeypatch.setattr(Changing, "forward", forward, raising=False)
    plain, fused = doubled(type("Model", (Changing,), {}))
    assert_same_function(fused, plain, x())
    assert pyfastnn.fusion_report(fused).fused
    before = leaves(plain(x()))[0]
    change(plain)
    change(fused)
    fused.load_state_dict(plain.state_dict())  # new layers drew new values
    after = leaves(plain(x()))[0]
    assert before.shape != after.shape or not torch.equal(before, after)
    assert_same_function(fused, plain, x())
