"""``fuse`` on models as people write them: the same function, the same gradients, fused."""

import copy
import gc
import inspect
import io
import pickle
import weakref

import fusion_models as models
import pytest
import torch
from torch import nn

import pyfastnn
from pyfastnn.fusion import _programs
from pyfastnn.fusion._classes import Fused

SAVED = [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy]


def leaves(result) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(result)


def run(model, *args, **kwargs):
    """Outputs, and the gradients of input and parameters, from the same random numbers."""
    torch.manual_seed(5)
    args = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    model.zero_grad()
    outputs = leaves(model(*args, **kwargs))
    sum(output.square().sum() for output in outputs).backward()
    grads = [a.grad for a in args if isinstance(a, torch.Tensor)]
    return outputs, grads + [p.grad for p in model.parameters()]


def assert_same_function(fused, plain, *args, **kwargs) -> None:
    got, want = run(fused, *args, **kwargs), run(plain, *args, **kwargs)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)  # float64


def doubled(model_class) -> tuple[nn.Module, nn.Module]:
    """A model, and another one of the same values that is fused, both in float64."""
    plain, other = model_class().double(), model_class().double()
    plain.plain, other.plain = plain.plain.double(), other.plain.double()
    return plain, pyfastnn.fuse(other)


def x(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model_class", models.FUSED)
def test_a_model_is_fused_and_computes_what_it_did(model_class):
    plain, fused = doubled(model_class)
    assert pyfastnn.fusion_report(fused).fused and isinstance(fused, Fused)
    for mode in (True, False, True):
        for model in (plain, fused):
            model.train(mode)
        for rows in (5, 2):
            assert_same_function(fused, plain, x(rows))
    state, other = plain.state_dict(), fused.state_dict()
    assert list(state) == list(other)
    torch.testing.assert_close(state, other, rtol=0, atol=0)  # buffers went the same way too


@pytest.mark.parametrize("model_class", [models.Functional, models.Nested, models.Loop])
def test_a_chain_is_one_call(model_class):
    _, fused = doubled(model_class)
    y = fused(x())
    assert y.grad_fn.name() == "MlpBackward"


def test_a_chain_does_not_reach_over_a_change_in_place():
    plain, fused = doubled(models.InputChanged)
    with torch.no_grad():
        torch.testing.assert_close(fused(x()), plain(x()))
    assert "changed in place" in pyfastnn.fusion_report(fused).left["layers.0"]


def test_dropout_breaks_a_chain_in_training_only():
    _, fused = doubled(models.DropoutAndNorm)
    fused.eval()
    del fused.body  # which this forward does not call
    assert pyfastnn.fusion_report(fused).fused == {"fc2 .. head": "6-4-3"}
    fused.train()
    assert pyfastnn.fusion_report(fused).fused == {"fc2": "6-4", "head": "4-3"}


def test_optional_and_constant_arguments_choose_what_runs():
    plain, fused = doubled(models.Optional)
    for args, kwargs in [
        ((x(),), {}),
        ((x(), x()), {}),
        ((x(), None, 3.0), {}),
        ((x(),), {"gain": 0.5}),
        ((x(),), {"mask": x()}),
    ]:
        assert_same_function(fused, plain, *args, **kwargs)
    plain, fused = doubled(models.Choice)
    for which in ("b", "a", "b"):
        assert_same_function(fused, plain, x(), which)


def test_an_argument_keeps_its_type():
    plain, fused = doubled(models.Batch)
    for argument in (x(), {"features": x()}):
        torch.testing.assert_close(fused(argument), plain(argument))


def test_numbers_as_arguments_do_not_make_new_programs(monkeypatch):
    plain, fused = doubled(models.Optional)
    assert_same_function(fused, plain, x(), None, 0.5)
    monkeypatch.setattr(_programs, "make", None)
    for step in range(20):
        torch.testing.assert_close(fused(x(), None, 0.1 * step), plain(x(), None, 0.1 * step))


@pytest.mark.parametrize("save", SAVED, ids=["pickle", "deepcopy"])
def test_copies_are_fused_and_independent(save):
    _, fused = doubled(models.Nested)
    want = fused(x())
    copied = save(fused)
    assert isinstance(copied, models.Nested) and copied.forward.__self__ is copied
    assert pyfastnn.fusion_report(copied).fused == pyfastnn.fusion_report(fused).fused
    with torch.no_grad():
        fused.fc1.weight.zero_()
        fused.head.weight.zero_()
    assert torch.equal(copied(x()), want)


def test_a_shallow_copy_reads_its_own_attributes():
    class Model(models.Base):
        def forward(self, x):
            return F_relu(self.fc1(x)) * (1 if self.flag else 2)

    F_relu = nn.functional.relu
    fused = pyfastnn.fuse(Model().double())
    want = fused(x())
    copied = copy.copy(fused)
    copied.flag = False
    assert torch.equal(copied(x()), 2 * want) and torch.equal(fused(x()), want)
    for _ in range(20):  # a copy may get the address of one that is gone
        copied = copy.copy(copied)
        copied.flag = not copied.flag
        assert torch.equal(copied(x()), want if copied.flag else 2 * want)


def test_torch_save_of_the_whole_model():
    _, fused = doubled(models.Functional)
    buffer = io.BytesIO()
    torch.save(fused, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(x()), fused(x()))


def test_checkpoints_load_both_ways():
    plain, fused = doubled(models.Nested)
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(0.1)
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fused(x()), plain(x()))
    plain.load_state_dict(fused.state_dict())


def test_parameters_and_buffers_are_shared_and_modules_are_not():
    plain = models.DropoutAndNorm()
    names = [name for name, _ in plain.named_parameters()]
    fused = pyfastnn.fuse(plain)
    assert [name for name, _ in fused.named_parameters()] == names
    pairs = [*zip(plain.parameters(), fused.parameters(), strict=True)]
    pairs += zip(plain.buffers(), fused.buffers(), strict=True)
    assert all(a is b for a, b in pairs)
    assert not set(plain.modules()) & set(fused.modules())
    assert fused.also[0] is fused.fc1  # a plain list of modules follows
    fused.eval()
    assert plain.training and not fused.also[0].training


def test_in_place_the_model_itself_is_changed():
    plain = models.Functional()
    assert pyfastnn.fuse(plain, inplace=True) is plain
    assert plain(torch.randn(3, 4)).grad_fn.name() == "MlpBackward"


@pytest.mark.parametrize("inplace", [False, True])
def test_unfuse_gives_back_the_classes(inplace):
    model = nn.Sequential(models.Functional(), nn.ReLU(), pyfastnn.MLP([3, 5, 2]))
    fused = pyfastnn.fuse(model)
    plain = pyfastnn.unfuse(fused, inplace=inplace)
    assert (plain is fused) == inplace
    assert type(plain) is nn.Sequential and type(plain[0]) is models.Functional
    assert type(plain[2]) is nn.Sequential and plain.__dict__.keys() == model.__dict__.keys()
    assert not pyfastnn.fusion_report(plain).fused
    torch.testing.assert_close(plain(torch.ones(2, 4)), model(torch.ones(2, 4)))


def test_fusing_twice_is_fusing_once():
    fused = pyfastnn.fuse(models.Functional())
    again = pyfastnn.fuse(fused)
    assert type(again) is type(fused)
    torch.testing.assert_close(again(torch.ones(2, 4)), fused(torch.ones(2, 4)))


def test_the_class_is_the_users_for_everything_else():
    class Model(models.Base):
        def __init_subclass__(cls):
            raise AssertionError("subclasses are not allowed")

        def forward(self, x, mask=None):
            """The user's words."""
            return nn.functional.relu(self.fc1(x))

        def embed(self, x):
            return self.forward(x) * 2

    fused = pyfastnn.fuse(Model())
    assert isinstance(fused, Model) and type(fused).__name__ == "Model"
    assert fused.forward.__doc__ == "The user's words."
    assert list(inspect.signature(fused.forward).parameters) == ["x", "mask"]
    torch.testing.assert_close(fused.embed(torch.ones(2, 4)), 2 * fused(torch.ones(2, 4)))
    assert repr(fused) == repr(Model())


def test_a_fused_model_is_freed_at_once():
    fused = pyfastnn.fuse(models.Functional())
    fused(torch.ones(2, 4))
    alive = [weakref.ref(module) for module in fused.modules()]
    gc.disable()
    try:
        del fused
        assert all(one() is None for one in alive)
    finally:
        gc.enable()
