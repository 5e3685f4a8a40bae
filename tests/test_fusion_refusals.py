"""Forwards that a trace would freeze: ``fuse`` leaves them as they are, and says why."""

import contextlib
import random
import time

import fusion_models as models
import pytest
import torch
from test_fusion import x
from torch.nn import functional as F

import pyfastnn


def assigns(self, x):
    self.calls = 1
    return F.relu(self.fc1(x))


def appends(self, x):
    self.numbers.append(1.0)
    return F.relu(self.fc1(x)) * self.numbers[0]


def draws(self, x):
    return F.relu(self.fc1(x)) * random.random()


def tells_the_time(self, x):
    return F.relu(self.fc1(x)) * (1 + 0 * time.time())


def prints(self, x):
    print("called")
    return F.relu(self.fc1(x))


def switches_grad_mode(self, x):
    with torch.no_grad():
        return F.relu(self.fc1(x.detach())) + x.sum()


def asks_for_grad_mode(self, x):
    return F.relu(self.fc1(x)) if torch.is_grad_enabled() else self.fc1(x)


def catches(self, x):
    try:
        return F.relu(self.fc1(x))[100]
    except IndexError:
        return F.relu(self.fc1(x))


def decides_on_data(self, x):
    return F.relu(self.fc1(x)) if x.sum() > 0 else self.fc1(x)


def decides_on_a_dtype(self, x):
    return F.relu(self.fc1(x)) if x.dtype is torch.float64 else F.relu(self.fc1(x)) * 2


def decides_on_a_class(self, x):
    return F.relu(self.fc1(x)) if type(x) is torch.Tensor else F.relu(self.fc1(x)) * 2


def decides_on_an_attribute(self, x):
    return F.relu(self.fc1(x)) * (2 if hasattr(x, "no_such_attribute") else 1)


def decides_on_a_result(self, x):
    h = F.relu(self.fc1(x))
    return h[0] if isinstance(h, tuple) else h


def reads_itself(self, x):
    return F.relu(self.fc1(x)) * (2 if "late" in self.__dict__ else 1)


def reads_an_object(self, x):
    return F.relu(self.fc1(x)) * self.opaque.get()


REFUSALS = {
    assigns: "it assigns calls",
    appends: "it changes a list or a dict of the model",
    draws: "it calls random, which depends on",
    tells_the_time: "it calls time, which depends on",
    prints: "it uses print",
    switches_grad_mode: "it catches exceptions or has a with block",
    asks_for_grad_mode: "it calls is_grad_enabled, which depends on",
    catches: "it catches exceptions or has a with block",
    decides_on_data: "tracing it failed: TraceError: symbolically traced variables",
    decides_on_a_dtype: "it asks whether a computed value is a certain object",
    decides_on_a_class: "it uses type",
    decides_on_an_attribute: "it asks whether a value has an attribute no_such_attribute",
    decides_on_a_result: "it asks for the type of a value that it computes",
    reads_itself: "it reads __dict__",
    reads_an_object: "it reads Refused.opaque, a Opaque that may change unseen",
}


class Opaque:
    __slots__ = ()

    def get(self):
        return 1.0


def fused_or_not(model_class):
    """A model, and one with its own state that was given to ``fuse``."""
    plain, other = model_class().double(), model_class().double()
    with contextlib.suppress(AttributeError):
        plain.opaque = other.opaque = Opaque()
    with (
        pytest.warns(UserWarning, match="nothing to fuse")
        if model_class is Refused
        else (contextlib.nullcontext())
    ):
        return plain, pyfastnn.fuse(other, inplace=True)


class Refused(models.Base):
    def __init__(self):
        super().__init__()
        del self.body


@pytest.mark.parametrize(
    "forward, reason", REFUSALS.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_a_forward_that_tracing_would_freeze_runs_as_written(forward, reason, monkeypatch, capsys):
    monkeypatch.setattr(Refused, "forward", forward, raising=False)
    plain, fused = fused_or_not(Refused)
    assert type(fused) is Refused
    left = pyfastnn.fusion_report(fused).left
    assert left["fc1"].startswith(f"Refused.forward runs as written: {reason}")
    for change in (lambda m: None, lambda m: setattr(m, "late", 1)):
        for model in (plain, fused):
            change(model)
        for argument in (x(), -x()):
            random.seed(0)
            got = fused(argument)
            random.seed(0)
            assert torch.equal(got, plain(argument))
    with torch.no_grad():
        random.seed(0)
        got = fused(x())
        random.seed(0)
        assert torch.equal(got, plain(x()))


def test_a_trace_leaves_nothing_behind():
    monkey = type("Refused", (Refused,), {"forward": appends})().double()
    with pytest.warns(UserWarning, match="nothing to fuse"):
        pyfastnn.fuse(monkey)
    assert monkey.numbers == [1.0, 2.0]
