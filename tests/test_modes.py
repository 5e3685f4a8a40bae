"""What watches or replaces tensors from Python: modes, subclasses, flop counter, profiler."""

import pytest
import torch
from cases import Size, draw
from functions import assert_close, draw_smooth, fused_mlp, plain_layer, plain_mlp
from models import PAIRS, gradients
from tolerance import assert_same_bits
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pyfastnn.functional import linear_relu, mlp

SIZE = Size(6, (5, 7, 3))


class Watched(torch.Tensor):
    seen: tuple[str, ...] = ()

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen += (str(function),)
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("position", range(3))
def test_a_tensor_subclass_sees_the_call_and_comes_back(position):
    Watched.seen = ()
    arguments = draw_smooth(Size(5, (4, 6)))
    watched = list(arguments)
    watched[position] = arguments[position].as_subclass(Watched)
    y = linear_relu(*watched)
    assert isinstance(y, Watched)
    assert "pyfastnn.linear_relu.default" in Watched.seen
    x, w, b = watched
    assert isinstance(mlp(x, [w], [b]), Watched)
    assert "pyfastnn.mlp.default" in Watched.seen
    got = torch.autograd.grad(y.sum(), arguments)
    assert_close([g.as_subclass(torch.Tensor) for g in got], wanted_gradients(arguments))


def wanted_gradients(arguments):
    return list(torch.autograd.grad(plain_layer(*arguments).sum(), arguments))


@PAIRS
def test_a_function_mode_sees_and_may_replace_the_call(make_pair):
    class Double(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            y = function(*args, **(kwargs or {}))
            return 2 * y if "pyfastnn" in str(function) else y

    ours, theirs, x = make_pair()
    with Double():
        y = ours(x)
    assert_close(y, 2 * theirs(x))


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function._schema.name)
        return function(*args, **(kwargs or {}))


@PAIRS
def test_a_dispatch_mode_sees_one_operator_forward_and_one_backward(make_pair):
    ours, theirs, x = make_pair()
    with Names() as names:
        got = gradients(ours, x)
    assert_close(got, gradients(theirs, x))
    forward = "mlp_forward" if len(list(ours.children())) else "linear_relu"
    assert [name for name in names.seen if "pyfastnn" in name] == [
        f"pyfastnn::{forward}",
        "pyfastnn::mlp_backward",
    ]


def test_a_wrapper_subclass_runs_the_operators_on_what_it_wraps():
    plain = draw(SIZE, torch.float64)
    leaves = plain.map(lambda t: TwoTensor(t, -t)).requires_grad()
    y = mlp(*leaves)
    assert type(y) is TwoTensor
    grads = torch.autograd.grad(y.square().sum(), leaves.tensors())
    for side, sign in (("a", 1), ("b", -1)):
        x, weights, biases = arguments = plain.map(lambda t, sign=sign: sign * t).requires_grad()
        want = plain_mlp(x, weights[0], biases[0], weights[1], biases[1])
        assert_close(getattr(y, side), want)
        wanted = torch.autograd.grad(want.square().sum(), arguments.tensors())
        assert_close([getattr(grad, side) for grad in grads], list(wanted))


def count_flops(function, arguments, active) -> int:
    leaves = [
        t if t is None else t.detach().requires_grad_(i in active) for i, t in enumerate(arguments)
    ]
    with FlopCounterMode(display=False) as counter:
        y = function(*leaves)
        if y.requires_grad:
            y.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("active", [(), range(7), [0], [1], [2], [3], [4], [5], [6], [1, 2, 5]])
def test_the_flop_counter_counts_what_it_counts_for_torch(active):
    arguments = draw_smooth(Size(3, (4, 6, 5, 2)))
    want = count_flops(plain_mlp, arguments, active)
    assert want >= 2 * 3 * (4 * 6 + 6 * 5 + 5 * 2)
    assert count_flops(fused_mlp, arguments, active) == want
    layer = arguments[:3]
    assert count_flops(linear_relu, layer, active) == count_flops(plain_layer, layer, active)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (0, 4)], ids=str)
def test_the_flop_counter_counts_rows_of_any_dimension(shape):
    _, *parameters = draw_smooth(Size(3, (4, 6, 5)))
    arguments = [torch.ones(shape, dtype=torch.float64), *parameters]
    assert count_flops(fused_mlp, arguments, range(5)) == count_flops(
        plain_mlp, arguments, range(5)
    )


@PAIRS
def test_the_profiler_shows_the_operators(make_pair):
    ours, _, x = make_pair()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        gradients(ours, x)
    shown = {event.key for event in profiler.key_averages()}
    if len(list(ours.children())):
        assert {"pyfastnn::mlp", "MlpBackward", "pyfastnn::mlp_backward"} <= shown
    else:
        assert {"pyfastnn::linear_relu", "LinearReluBackward", "pyfastnn::mlp_backward"} <= shown


def test_modes_see_the_call_with_the_bits_of_an_unwatched_one():
    arguments = draw(SIZE, torch.float32)
    with Names():
        got = mlp(*arguments)
    assert_same_bits(got, mlp(*arguments))


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@PAIRS
def test_nested_tensors_run_row_by_row(make_pair, layout):
    ours, theirs, x = make_pair()
    results = []
    for model in (ours, theirs):
        model.zero_grad()
        y = model(torch.nested.nested_tensor([x[:2], x[2:7], x[7:]], layout=layout))
        parts = torch.cat(y.unbind())
        parts.square().sum().backward()
        results.append([parts, *(p.grad for p in model.parameters())])
    assert_close(*results)
    assert_close(results[0], [theirs(x), *gradients(theirs, x)[1:]])
