"""Layers that ``fuse`` leaves alone, and what the report says of them."""

import fusion_models as models
import pytest
import torch
from test_fusion import assert_same_function, x
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import pyfastnn


class Plain(nn.Module):
    """One chain of three layers, in a Sequential or by hand."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


class ByHand(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.first, self.second, self.third = body[0], body[2], body[4]

    def forward(self, x):
        return self.third(F.relu(self.second(F.relu(self.first(x)))))


def body():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()


def scale_output(layer):
    layer.register_forward_hook(lambda module, args, output: 2 * output)


def scale_input(layer):
    layer.register_forward_pre_hook(lambda module, args: 2 * args[0])


def scale_gradient(layer):
    layer.register_full_backward_hook(lambda module, given, _: (2 * given[0],))


def own_forward(layer):
    layer.forward = lambda x: 2 * F.linear(x, layer.weight, layer.bias)


def spectral_norm(layer):
    torch.nn.utils.parametrizations.spectral_norm(layer)


def weight_norm(layer):
    torch.nn.utils.parametrizations.weight_norm(layer)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", amount=0.5)


SPECIAL = {
    scale_output: "has a hook",
    scale_input: "has a hook",
    scale_gradient: "has a hook",
    own_forward: "has a forward of its own",
    spectral_norm: "is a ParametrizedLinear, not a Linear",
    weight_norm: "is a ParametrizedLinear, not a Linear",
    pruned: "has a hook",
}


def middle(model):
    return model.second if isinstance(model, ByHand) else model.body[2]


@pytest.mark.parametrize("model_class", [Plain, ByHand])
@pytest.mark.parametrize(
    "special, reason", SPECIAL.items(), ids=lambda v: getattr(v, "__name__", "")
)
@pytest.mark.parametrize("when", ["before", "after", "after a call"])
def test_a_special_layer_does_what_it_does(model_class, special, reason, when):
    models = []
    for fuse in (pyfastnn.fuse, lambda model: model):
        model = model_class(body())
        if when == "before":
            special(middle(model))
        model = fuse(model)
        if when == "after a call":
            model(x())
        if when != "before":
            torch.manual_seed(0)
            special(middle(model))
        models.append(model)
    fused, plain = models
    fused.load_state_dict(plain.state_dict())
    for mode in (True, False):
        plain.train(mode)
        fused.train(mode)
        assert_same_function(fused, plain, x())
    left = pyfastnn.fusion_report(fused).left
    assert any(why.endswith(reason) for why in left.values()), left


def test_it_is_fused_again_when_the_hook_is_gone():
    fused = pyfastnn.fuse(body())
    handle = fused[1].register_forward_hook(lambda *_: None)
    assert pyfastnn.fusion_report(fused).left == {"0 .. 4": "runs part by part: 1 has a hook"}
    again = pyfastnn.fuse(pyfastnn.unfuse(fused))
    assert pyfastnn.fusion_report(again).fused == {"2 .. 4": "6-5-3"}
    assert pyfastnn.fusion_report(again).left == {"0": "has a ReLU behind it, 1, that has a hook"}
    handle.remove()
    assert pyfastnn.fusion_report(fused).fused == {"0 .. 4": "4-6-5-3"}


def test_hooks_for_all_modules_run_on_every_layer():
    fused, seen = pyfastnn.fuse(body()), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        fused(x())
        assert "a hook is registered for all modules" in str(pyfastnn.fusion_report(fused))
    finally:
        handle.remove()
    assert seen[:3] == [nn.Linear, nn.ReLU, nn.Linear]


def test_hooks_on_the_model_stay_and_run():
    model, seen = ByHand(body()), []
    handle = model.register_forward_hook(lambda m, args, y: seen.append(type(m)))
    fused = pyfastnn.fuse(model)
    fused(x())
    assert seen == [type(fused)] and isinstance(fused, ByHand)
    handle.remove()  # the original's; the copy has the same hooks in a dict of its own
    fused(x())
    assert len(seen) == 2


def test_other_linear_layers_are_left_and_named():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    model = nn.Sequential(
        Noisy(4, 4), nn.ReLU(), nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh()
    )
    with pytest.warns(UserWarning, match="nothing to fuse: 0: is a Noisy, not a Linear"):
        fused = pyfastnn.fuse(model)
    assert pyfastnn.fusion_report(fused).left == {
        "0": "is a Noisy, not a Linear",
        "2": "is a LazyLinear, not a Linear",
        "4": "has no ReLU behind it",
    }
    argument = torch.ones(2, 4)
    torch.testing.assert_close(fused(argument), model(argument))


def test_a_quantized_model_is_left_alone():
    model = torch.ao.quantization.quantize_dynamic(body().float(), {nn.Linear}, torch.qint8)
    with pytest.warns(
        UserWarning, match="nothing to fuse: 0: is a torch.ao.nn.*Linear, not a Linear"
    ):
        fused = pyfastnn.fuse(model)
    assert torch.equal(fused(x().float()), model(x().float()))


def test_a_value_before_the_relu_that_is_used_twice():
    plain = models.UsedTwice().double()
    fused = pyfastnn.fuse(plain)
    left = pyfastnn.fusion_report(fused).left
    assert left["layers.0"] == "is not fused: what it computes is used 2 times"
    assert_same_function(fused, plain, x())
    plain, fused = models.InplaceUsedTwice().double(), pyfastnn.fuse(models.InplaceUsedTwice())
    assert_same_function(fused.double(), plain, x())


def test_the_report_before_and_after():
    model = Plain(body())
    assert str(pyfastnn.fusion_report(model)) == (
        "fused:\n  nothing\nnot fused:\n"
        "  body.0: could be fused: call pyfastnn.fuse\n"
        "  body.2: could be fused: call pyfastnn.fuse\n"
        "  body.4: could be fused: call pyfastnn.fuse"
    )
    assert str(pyfastnn.fusion_report(pyfastnn.fuse(model))) == (
        "fused:\n  body.0 .. body.4: 4-6-5-3"
    )


def test_own_modules_are_reported_and_left_as_they_are():
    model = nn.Sequential(pyfastnn.MLP([4, 6, 5]), nn.Tanh(), pyfastnn.LinearReLU(5, 3))
    fused = pyfastnn.fuse(model)
    assert type(fused) is nn.Sequential and type(fused[0]) is pyfastnn.MLP
    assert pyfastnn.fusion_report(fused).fused == {"0": "4-6-5", "2": "5-3"}
    fused[0][1].register_forward_hook(lambda *_: None)
    assert pyfastnn.fusion_report(fused).left["0"] == "child 1 has a hook"


@pytest.mark.parametrize("function", [pyfastnn.fuse, pyfastnn.unfuse, pyfastnn.fusion_report])
def test_what_is_not_a_module_is_refused(function):
    with pytest.raises(TypeError, match=r"expected model to be an nn\.Module, got function"):
        function(lambda x: x)
