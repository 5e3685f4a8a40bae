"""The operators as citizens of PyTorch: schemas, fake tensors, compile, export, autocast."""

import cases
import pytest
import torch
from cases import LAYOUTS, Size, draw
from tolerance import assert_same_bits
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from pyfastnn import MLP, LinearReLU
from pyfastnn.autograd import LinearReLUFunction, MLPFunction
from pyfastnn.functional import linear_relu, mlp

ops = torch.ops.pyfastnn
SIZE = Size(6, (5, 7, 3))


def test_the_schemas_are_those_of_the_documentation():
    assert [str(op.default._schema) for op in (ops.linear_relu, ops.mlp)] == [
        "pyfastnn::linear_relu(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
        "pyfastnn::mlp(Tensor input, Tensor[] weights, Tensor?[] biases, "
        "bool activate_last=False) -> Tensor",
    ]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (2, 0, 5), (2, 3, 5)], ids=str)
def test_opcheck_of_the_operators(dtype, shape, bias, requires_grad):
    _, weights, biases = draw(SIZE, dtype, bias)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    arguments = cases.Arguments(x, weights, biases)
    if requires_grad:
        arguments = arguments.requires_grad()
    x, weights, biases = arguments
    torch.library.opcheck(ops.linear_relu.default, (x, weights[0], biases[0]))
    torch.library.opcheck(ops.mlp.default, (x, weights, biases))


def test_opcheck_of_the_building_blocks(dtype):
    x, weights, biases = draw(SIZE, dtype)
    torch.library.opcheck(ops.mlp_forward.default, (x, weights, biases, True))
    outputs = ops.mlp_forward(x, weights, biases, True)
    grad = torch.ones(6, 3, dtype=dtype)
    for needs_grad in ([True] * 5, [False, True, False, False, True]):
        arguments = (grad, x, weights, outputs, True, needs_grad)
        torch.library.opcheck(ops.mlp_backward.default, arguments)
    arguments = (grad, x, weights, outputs[:1], False, [True] * 5)
    torch.library.opcheck(ops.mlp_backward.default, arguments)


def shapes(tensors) -> list[tuple]:
    tensors = tensors if isinstance(tensors, (list, tuple)) else [tensors]
    return [(t.shape, t.stride(), t.dtype, t.requires_grad) for t in tensors]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 5), (5,), (0, 5), (2, 3, 5), (1, 2, 3, 5)], ids=str)
def test_fake_and_meta_results_have_the_shape_and_strides_of_real_ones(layout, shape, dtype):
    _, weights, biases = draw(SIZE, dtype)
    x = layout(torch.ones(shape, dtype=dtype)) if 0 not in shape else torch.ones(shape, dtype=dtype)
    arguments = cases.Arguments(x, weights, biases)

    def everything(arguments: cases.Arguments) -> list[tuple]:
        x, weights, biases = arguments.requires_grad()
        y = mlp(x, weights, biases)
        grads = torch.autograd.grad(y.sum(), [x, *weights])
        forward = ops.mlp_forward(*arguments, True)
        return shapes([y, linear_relu(x, weights[0], biases[0]), *grads, *forward])

    real = everything(arguments)
    assert everything(arguments.map(lambda t: t.to("meta"))) == real
    with FakeTensorMode() as mode:
        assert everything(arguments.map(mode.from_tensor)) == real


def run(function, arguments: cases.Arguments) -> list[torch.Tensor]:
    leaves = arguments.requires_grad()
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves.tensors())]


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_graph_breaks_forward_and_backward(dynamic):
    torch._dynamo.reset()

    def network(x, weights, biases):
        hidden = linear_relu(x, weights[0], biases[0])
        return mlp(hidden, weights[1:], biases[1:], activate_last=True) * 2

    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for rows in (6, 6, 9):
        arguments = draw(SIZE._replace(rows=rows), torch.float32)
        for got, want in zip(run(compiled, arguments), run(network, arguments), strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("make", [lambda: MLP([5, 7, 3]), lambda: LinearReLU(5, 7)])
def test_modules_compile_without_graph_breaks(make):
    torch._dynamo.reset()
    model, x = make(), torch.randn(6, 5)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for function in (model, compiled):
        model.zero_grad()
        function(x).square().sum().backward()
        grads = [p.grad for p in model.parameters()]
        if function is model:
            want = grads
    assert_same_bits(compiled(x).detach(), model(x).detach())
    for got, right in zip(grads, want, strict=True):
        assert_same_bits(got, right)


@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_the_operator(strict):
    model, x = MLP([5, 7, 3]), torch.randn(6, 5)
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: rows},), strict=strict)
    assert "pyfastnn.mlp" in program.graph_module.code
    x = torch.randn(11, 5)
    assert_same_bits(program.module()(x).detach(), model(x).detach())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_jit_tracing_bakes_nothing_in():
    for model in (MLP([5, 7, 3]), LinearReLU(5, 3)):
        traced = torch.jit.trace(model, torch.randn(6, 5))
        assert ("pyfastnn::linear_relu" in str(traced.graph)) == isinstance(model, LinearReLU)
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        x = torch.randn(11, 5)
        torch.testing.assert_close(traced(x), model(x))


def test_symbolic_tracing_records_the_operator():
    graph = torch.fx.symbolic_trace(LinearReLU(5, 3))
    assert any("linear_relu" in str(node.target) for node in graph.graph.nodes)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_for_linear(low):
    plain = draw(SIZE, torch.float32)
    with torch.autocast("cpu", low):
        arguments = plain.requires_grad()
        x, weights, biases = arguments
        assert F.linear(x, weights[0]).dtype == low
        hidden = linear_relu(x, weights[0], biases[0])
        y = mlp(hidden, weights[1:], biases[1:])  # a low-precision input meets float32 weights
        assert hidden.dtype == y.dtype == low
        assert mlp(x, weights, biases).dtype == low
    grads = torch.autograd.grad(y.float().sum(), arguments.tensors())
    assert all(grad.dtype == torch.float32 for grad in grads)
    cast = plain.map(lambda tensor: tensor.to(low))
    assert_same_bits(y.detach(), mlp(*cast))
    want = run_sum(cast)
    for got, right in zip(grads, want, strict=True):
        assert_same_bits(got, right.float())


def run_sum(arguments: cases.Arguments) -> tuple[torch.Tensor, ...]:
    leaves = arguments.requires_grad()
    hidden = linear_relu(leaves.input, leaves.weights[0], leaves.biases[0])
    y = mlp(hidden, leaves.weights[1:], leaves.biases[1:])
    return torch.autograd.grad(y.float().sum(), leaves.tensors())


def test_autocast_of_the_function_classes():
    arguments = draw(SIZE, torch.float32).requires_grad()
    x, (w0, w1), (b0, b1) = arguments
    with torch.autocast("cpu", torch.bfloat16):
        layer = LinearReLUFunction.apply(x, w0, b0)
        network = MLPFunction.apply(x, False, w0, b0, w1, b1)
    assert layer.dtype == network.dtype == torch.bfloat16
    for y, leaves in ((layer, (x, w0, b0)), (network, arguments.tensors())):
        for create_graph in (False, True):
            grads = torch.autograd.grad(
                y.float().sum(), leaves, create_graph=create_graph, retain_graph=True
            )
            assert all(grad.dtype == torch.float32 for grad in grads)


def test_autocast_leaves_float64_and_disabled_regions_alone():
    x, weights, biases = draw(SIZE, torch.float32)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert_same_bits(mlp(x, weights, biases), mlp(x, weights, biases))
        assert mlp(x, weights, biases).dtype == torch.float32
    x, weights, biases = draw(SIZE, torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert mlp(x, weights, biases).dtype == F.linear(x, weights[0]).dtype


def test_inference_mode_gives_inference_tensors_with_the_same_bits():
    x, weights, biases = draw(SIZE, torch.float32)
    want = mlp(x, weights, biases)
    with torch.inference_mode():
        got = mlp(x, weights, biases)
    assert got.is_inference()
    assert_same_bits(got.clone(), want)


def test_tensor_subclasses_and_modes_see_the_call():
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return super().__torch_function__(function, types, args, kwargs or {})

    x, weights, biases = draw(SIZE, torch.float32)
    y = linear_relu(x.as_subclass(Watched), weights[0], biases[0])
    assert isinstance(y, Watched)
    assert any("linear_relu" in name for name in seen)
