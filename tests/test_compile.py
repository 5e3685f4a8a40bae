"""torch.compile and compiled autograd: the operators stay whole, values and gradients the same."""

import subprocess
import sys

import pytest
import torch
from cases import Arguments, Size, draw
from functions import assert_close, draw_smooth, fused_mlp, plain_layer, plain_mlp
from models import MODULES, PAIRS, gradients
from tolerance import assert_same_bits
from torch._dynamo import compiled_autograd

from pyfastnn.autograd import LinearReLUFunction
from pyfastnn.functional import linear_relu, mlp

SIZE = Size(6, (5, 7, 3))


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch._dynamo.reset()


def network(x, weights, biases):
    hidden = linear_relu(x, weights[0], biases[0])
    return mlp(hidden, weights[1:], biases[1:], activate_last=True) * 2


def run(function, arguments: Arguments) -> list[torch.Tensor]:
    leaves = arguments.requires_grad()
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves.tensors())]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_without_graph_breaks_forward_and_backward(backend, dynamic):
    compiled = torch.compile(network, fullgraph=True, backend=backend, dynamic=dynamic)
    for rows in (6, 6, 9):
        arguments = draw(SIZE._replace(rows=rows), torch.float32)
        for got, want in zip(run(compiled, arguments), run(network, arguments), strict=True):
            assert_same_bits(got, want)


def test_code_is_generated_where_the_environment_says_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    arguments = draw(SIZE, torch.float32)
    with torch._inductor.config.patch(force_disable_caches=True):
        compiled = torch.compile(network, fullgraph=True)
        for got, want in zip(run(compiled, arguments), run(network, arguments), strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize(
    "modules", ["pyfastnn, torch._inductor.lowering", "torch._inductor.lowering, pyfastnn"]
)
def test_code_generator_allows_the_operators_in_either_order_of_imports(modules):
    script = f"""
import {modules}
import sys
assert {{"pyfastnn::linear_relu", "pyfastnn::mlp"}} <= torch._inductor.lowering.FALLBACK_ALLOW_LIST
assert not any(type(finder).__module__ == "pyfastnn._inductor" for finder in sys.meta_path)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@MODULES
def test_modules_compile_without_graph_breaks(make_pair):
    ours, theirs, x = make_pair()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(x).detach(), ours(x).detach())
    got = gradients(compiled, x)
    for ours_grad, want in zip(got, gradients(ours, x), strict=True):
        assert_same_bits(ours_grad, want)
    assert_close(got, gradients(theirs, x))


def test_batches_of_a_size_that_depends_on_data_compile_without_graph_breaks():
    arguments = draw_smooth(Size(9, (4, 6, 2)))

    def selected(function):
        return lambda x, *parameters: function(x[x[:, 0] > 0], *parameters)

    compiled = torch.compile(selected(fused_mlp), fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        got = torch.autograd.grad(compiled(*arguments).square().sum(), arguments)
    want = torch.autograd.grad(selected(plain_mlp)(*arguments).square().sum(), arguments)
    assert_close(got, want)


TRANSFORMS = {
    "per-sample gradients": lambda f, x, w: torch.vmap(torch.func.grad(f, 1), (0, None))(x, w),
    "ensemble": lambda f, x, w: torch.vmap(lambda w: f(x, w))(torch.stack([w, -w])),
    "jvp": lambda f, x, w: torch.func.jvp(f, (x, w), (x, w)),
    "hessian": lambda f, x, w: torch.func.hessian(f, 1)(x, w),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_torch_func_compile_without_graph_breaks(transform):
    x, w, *others = [t.detach() for t in draw_smooth(Size(3, (4, 6, 2)))]

    def transformed(function):
        def loss(x, w):
            return function(x, w, *others).square().sum()

        return lambda x, w: transform(loss, x, w)

    compiled = torch.compile(transformed(fused_mlp), fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, w), transformed(plain_mlp)(x, w))


def test_function_classes_break_the_graph_unless_they_are_allowed_in_it():
    arguments = draw_smooth(Size(3, (4, 6)))

    class Allowed(LinearReLUFunction):
        pass

    torch.compiler.allow_in_graph(Allowed)
    want = torch.autograd.grad(plain_layer(*arguments).sum(), arguments)
    for function, fullgraph in ((LinearReLUFunction, False), (Allowed, True)):
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda *a, function=function: function.apply(*a).sum(),
            fullgraph=fullgraph,
            backend="aot_eager",
        )
        assert_close(torch.autograd.grad(compiled(*arguments), arguments), want)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="custom jvp"):
        torch.compile(LinearReLUFunction.apply, fullgraph=True, backend="eager")(*arguments)


class Recorder:
    """A compiler for compiled autograd that keeps the code it was given."""

    def __init__(self) -> None:
        self.code: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule):
        return torch.compile(graph, backend=self.backend, fullgraph=True)

    def backend(self, graph: torch.fx.GraphModule, inputs):
        def record(graph, inputs):
            self.code.append(graph.code)
            return graph

        return torch._dynamo.backends.common.aot_autograd(fw_compiler=record)(graph, inputs)


def compiled_gradients(function, arguments, wanted, recorder):
    loss = function(*arguments).square().sum()
    with compiled_autograd._enable(recorder):
        return torch.autograd.grad(loss, wanted)


CASES = pytest.mark.parametrize(
    "function, reference, features",
    [(linear_relu, plain_layer, (4, 6)), (fused_mlp, plain_mlp, (4, 6, 5, 2))],
)


@pytest.mark.parametrize("bias", [True, False])
@CASES
def test_compiled_autograd_runs_the_fused_backward(function, reference, features, bias):
    recorder = Recorder()
    for rows, first in ((3, 0), (3, 1), (7, 0)):
        arguments = draw_smooth(Size(rows, features), bias)
        wanted = [argument for argument in arguments if argument is not None][first:]
        loss = reference(*arguments).square().sum()
        want = torch.autograd.grad(loss, wanted)
        assert_close(compiled_gradients(function, arguments, wanted, recorder), want)
    assert recorder.code
    for code in recorder.code:
        assert code.count("pyfastnn.mlp_backward") == 1
        assert "aten.mm" not in code


@CASES
def test_compiled_autograd_keeps_the_graph_for_second_derivatives(function, reference, features):
    arguments = draw_smooth(Size(3, features))

    def second(function):
        value = function(*arguments).square().sum()
        grads = torch.autograd.grad(value, arguments, create_graph=True)
        value = sum(grad.square().sum() for grad in grads)
        return torch.autograd.grad(value, arguments)

    want = second(reference)
    with compiled_autograd._enable(Recorder()):
        assert_close(second(function), want)


def test_compiled_autograd_of_a_compiled_training_step():
    arguments = draw_smooth(Size(5, (4, 6, 2)))
    want = torch.autograd.grad(plain_mlp(*arguments).square().sum(), arguments)

    @torch.compile(backend="aot_eager")
    def step(*arguments):
        fused_mlp(*arguments).square().sum().backward()

    with torch._dynamo.config.patch(compiled_autograd=True):
        step(*arguments)
    assert_close([argument.grad for argument in arguments], want)


@PAIRS
def test_compiled_autograd_runs_hooks_and_adds_to_gradients(make_pair):
    ours, theirs, x = make_pair()
    recorder = Recorder()
    for model in (ours, theirs):
        first, *_ = model.parameters()
        first.register_hook(lambda grad: 2 * grad)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t + 1, lambda t: t - 1):
            loss = model(x).square().sum()
        if model is theirs:
            loss.backward()
            model(x).square().sum().backward()
            continue
        with compiled_autograd._enable(recorder):
            loss.backward()
            model(x).square().sum().backward()
    got, want = ([p.grad for p in model.parameters()] for model in (ours, theirs))
    assert_close(got, want)


def test_compiled_autograd_notices_what_eager_autograd_notices():
    recorder = Recorder()
    arguments = draw_smooth(Size(5, (4, 6, 2)))
    loss = fused_mlp(*arguments).sum()
    with compiled_autograd._enable(recorder):
        torch.autograd.grad(loss, arguments)
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            torch.autograd.grad(loss, arguments)
    loss = fused_mlp(*arguments).sum()
    with torch.no_grad():
        arguments[1].mul_(2)
    with (
        compiled_autograd._enable(recorder),
        pytest.raises(RuntimeError, match="modified by an inplace operation"),
    ):
        torch.autograd.grad(loss, arguments)
