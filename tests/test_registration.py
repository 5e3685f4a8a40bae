"""The operators in the dispatcher: schemas, opcheck, fake and meta tensors, inference mode."""

import cases
import pytest
import torch
from cases import LAYOUTS, Size, draw
from tolerance import assert_same_bits
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

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


def check_building_blocks(arguments: cases.Arguments, needs_grad: list[bool]) -> None:
    x, weights, biases = arguments
    torch.library.opcheck(ops.mlp_forward.default, (x, weights, biases, True))
    outputs = [
        y.detach().requires_grad_(x.requires_grad) for y in ops.mlp_forward(*arguments, True)
    ]
    grad = torch.ones_like(outputs[-1]).requires_grad_(x.requires_grad)
    for activate_last in (True, False):
        saved = outputs if activate_last else outputs[:-1]
        torch.library.opcheck(
            ops.mlp_backward.default, (grad, x, weights, saved, activate_last, needs_grad)
        )


@pytest.mark.parametrize("needs_grad", [[True] * 5, [False, True, False, False, True]], ids=str)
def test_opcheck_of_the_building_blocks(dtype, needs_grad):
    check_building_blocks(draw(SIZE, dtype), needs_grad)


def test_opcheck_of_the_building_blocks_where_they_are_differentiated():
    check_building_blocks(draw(SIZE, torch.float32).requires_grad(), [True] * 5)


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


def test_arguments_of_unknown_sizes_are_checked_too():
    x, weights, biases = draw(SIZE, torch.float32)
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        x = mode.from_tensor(x, symbolic_context=StatelessSymbolicContext([DimDynamic.DYNAMIC] * 2))
        weights, biases = ([mode.from_tensor(t) for t in tensors] for tensors in (weights, biases))
        assert mlp(x, weights, biases).shape[0] is x.shape[0] or isinstance(
            x.shape[0], torch.SymInt
        )
        with pytest.raises(
            RuntimeError, match=r"mlp: expected biases\[0\] of dtype Float like input"
        ):
            mlp(x, weights, [biases[0].double(), biases[1]])
        with pytest.raises(RuntimeError, match=r"linear_relu: expected weight of shape \[N, "):
            linear_relu(x, weights[0][0])


def test_inference_mode_gives_inference_tensors_with_the_same_bits():
    x, weights, biases = draw(SIZE, torch.float32)
    want = mlp(x, weights, biases)
    with torch.inference_mode():
        got = mlp(x, weights, biases)
    assert got.is_inference()
    assert_same_bits(got.clone(), want)
