"""Changes behind the back of a fused model, and what only its layers can do."""

import collections
import functools
import types

import fusion_models as models
import pytest
import torch
from test_fusion_hostile import Held, Settings, X, both, helper, layer
from torch import nn
from torch.nn import functional as F

import pyfastnn


def changed(name, value):
    return lambda model: setattr(model, name, value)


CHANGES = {
    "an attribute that hides one of the class": (
        lambda s, x: layer(s, x) * s.of_class,
        changed("of_class", 3.0),
    ),
    "a method that hides one of the class": (
        lambda s, x: s.activate(s.layers[0](x)),
        changed("activate", torch.tanh),
    ),
    "a class as attribute": (
        lambda s, x: layer(s, x) * s.settings.scale,
        lambda model: setattr(Settings, "scale", Settings.scale + 1),
    ),
    "the class by its name": (
        lambda s, x: layer(s, x) * s.__class__.of_class,
        lambda model: setattr(models.Base, "of_class", getattr(models.Base, "of_class", 1) + 1),
    ),
    "the type of a number": (
        lambda s, x: layer(s, x) / s.number,
        changed("number", -0.0),
    ),
    "a number in a dict": (
        lambda s, x: layer(s, x) + torch.tensor(s.table["k"]),
        lambda model: model.table.update(k=1.0),
    ),
    "the parameters there are": (
        lambda s, x: layer(s, x) * sum(p.requires_grad for p in s.parameters()),
        lambda model: model.head.requires_grad_(False),
    ),
    "the dtype of a parameter": (
        lambda s, x: layer(s, x.to(next(s.parameters()).dtype)),
        lambda model: model.float(),
    ),
    "whether a relu works in place": (
        lambda s, x: s.sum_of_both(s.layers[0](x)),
        lambda model: setattr(model.inplace, "inplace", False),
    ),
    "a function's own attribute": (
        lambda s, x: layer(s, x) * helper.scale,
        lambda model: setattr(helper, "scale", helper.scale + 1),
    ),
    "a bound method of something": (
        lambda s, x: layer(s, x) * s.getter(),
        lambda model: setattr(model.getter.__self__, "x", 9.0),
    ),
    "a namespace": (
        lambda s, x: layer(s, x) * s.space.scale,
        lambda model: setattr(model.space, "scale", 4.0),
    ),
    "a module behind a list": (
        lambda s, x: layer(s, x) * s.outside[0].p,
        lambda model: setattr(model.outside[0], "p", 0.25),
    ),
    "the class of a layer": (
        lambda s, x: layer(s, x),
        lambda model: setattr(model.layers[0], "__class__", Doubling),
    ),
    "a forward": (
        lambda s, x: layer(s, x),
        lambda model: setattr(model.__class__, "forward", lambda s, x: layer(s, x) * 3),
    ),
}
helper.scale = 2.0


class Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Reader(models.Base):
    of_class = 1.0

    def __init__(self):
        super().__init__()
        self.settings, self.number, self.table = Settings, 0.0, {"k": 1}
        self.getter = types.MethodType(lambda held: held.x, Held(2.0))
        self.space = types.SimpleNamespace(scale=2.0)
        self.outside = [nn.Dropout(0.5)]
        self.inplace.inplace = True

    def activate(self, x):
        return x.relu()

    def sum_of_both(self, z):
        r = self.inplace(z)
        return r + z


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_counts_at_the_next_call(what):
    forward, change = CHANGES[what]
    cls = type("Model", (Reader,), {"forward": forward})
    plain, fused = cls().double(), pyfastnn.fuse(cls().double(), inplace=True)
    torch.testing.assert_close(fused(X), plain(X), rtol=1e-12, atol=1e-12, equal_nan=True)
    change(plain)
    change(fused)
    got, want = fused(X), plain(X)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_keywords_as_names_of_children():
    parts = {"from": nn.Linear(4, 4), "act": nn.ReLU(), "import": nn.Tanh(), "a b": nn.Tanh()}
    plain = nn.Sequential(collections.OrderedDict(parts)).double()
    fused = pyfastnn.fuse(plain)
    assert pyfastnn.fusion_report(fused).fused == {"from .. act": "4-4"}
    torch.testing.assert_close(fused(X), plain(X))


def test_the_copy_refers_to_its_own_parts():
    class Model(models.Base):
        def __init__(self):
            super().__init__()
            self.later = functools.partial(self.drop)
            self.mine = collections.deque([self.fc1])
            self.by_layer = {self.fc1: 2.0}
            self.loop = [self]
            self.handle = self.fc1.register_forward_hook(lambda *_: None)

        def forward(self, x):
            return self.later(F.relu(self.fc2(F.relu(self.fc1(x)))))

    plain = Model().double()
    fused = pyfastnn.fuse(plain).eval()
    assert fused.later.func is fused.drop and fused.mine[0] is fused.fc1
    assert fused.by_layer[fused.fc1] == 2.0 and fused.loop[0] is fused
    fused.handle.remove()
    assert not fused.fc1._forward_hooks and plain.fc1._forward_hooks
    fused.register_buffer("temporary", X, persistent=False)
    assert "temporary" not in plain._non_persistent_buffers_set
    torch.testing.assert_close(fused(X), plain.eval()(X))


def test_what_cannot_be_copied_says_so():
    model = models.Functional()
    model.generator = (i for i in range(3))
    with pytest.raises(TypeError, match=r"fuse: this Functional cannot be copied .* inplace=True"):
        pyfastnn.fuse(model)


@pytest.mark.parametrize("kind", ["sparse", "integer", "numpy", "one bias", "third parameter"])
def test_what_only_the_layers_take_or_refuse(kind):
    plain, fused = (m.double() for m in (models.Functional(), models.Functional()))
    fused = pyfastnn.fuse(fused)
    argument = {"sparse": X.to_sparse(), "integer": X.long(), "numpy": X.numpy()}.get(kind, X)
    for model in (plain, fused):
        if kind == "one bias":
            model.fc1.bias = nn.Parameter(torch.ones(1, dtype=torch.float64))
        if kind == "third parameter":
            weight = model.fc1.weight.detach()
            del model.fc1.weight
            model.fc1.weight = weight
            model.fc1.extra = nn.Parameter(torch.ones(1))
    try:
        want = plain(argument)
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            fused(argument)
        assert str(caught.value) == str(error)
    else:
        torch.testing.assert_close(fused(argument), want)


def test_a_weight_of_a_subclass_has_a_linear_of_its_own():
    class Doubled(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            result = super().__torch_function__(function, types, args, kwargs or {})
            return result * 2 if function is F.linear else result

    plain = models.Functional().double()
    plain.fc1.weight = nn.Parameter(plain.fc1.weight.detach().as_subclass(Doubled))
    fused = pyfastnn.fuse(plain)
    torch.testing.assert_close(fused(X), plain(X))
    assert pyfastnn.fusion_report(fused).left["fc1"] == "has a Doubled as weight"


def test_strings_of_their_own_for_every_call_are_given_up():
    model = both(lambda s, x, name="": layer(s, x))[1]
    for index in range(60):
        model(X, name=str(index))
    assert len(model.__dict__["_fused_programs"]._known) <= 34
