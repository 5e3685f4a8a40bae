"""A build with CUDA kernels on a machine without a device: `make test-cuda-build`."""

import cases
import pytest
import torch
from cases import LAYOUTS, Size, draw, hand_written_network
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import pyfastnn
from pyfastnn import MLP, LinearReLU, __main__, functional
from pyfastnn.functional import linear_relu, mlp
from pyfastnn.fusion import _chain

ops = torch.ops.pyfastnn
OPERATORS = ["linear_relu", "mlp", "mlp_forward", "mlp_backward"]
SIZE = Size(6, (5, 7, 3))


def test_the_build_tells_what_it_has():
    assert functional.CUDA_IS_BUILT
    assert "CUDA kernels            built for 8.0 8.6 8.9 9.0 10.0 12.0+PTX\n" in __main__.info()


def registered(operator: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"pyfastnn::{operator}", key)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_operators_are_registered_for_cuda(operator):
    assert registered(operator, "CUDA")
    table = torch._C._dispatch_dump_table(f"pyfastnn::{operator}")
    (line,) = [line for line in table.splitlines() if line.startswith("CUDA:")]
    assert "ops_cuda.cpp" in line, line
    (line,) = [line for line in table.splitlines() if line.startswith("AutogradCUDA:")]
    assert "autograd.cpp" in line, line


def test_autocast_is_registered_for_cuda():
    assert [registered(operator, "AutocastCUDA") for operator in OPERATORS[:2]] == [True, True]


def test_cpu_tensors_are_served_as_ever():
    x, weights, biases = draw(SIZE, torch.float64)
    want = torch.relu(torch.nn.functional.linear(x, weights[0], biases[0]))
    torch.testing.assert_close(linear_relu(x, weights[0], biases[0]), want)


def described(tensors, device: str) -> list[tuple]:
    tensors = tensors if isinstance(tensors, (list, tuple)) else [tensors]
    assert {t.device.type for t in tensors} == {device}
    return [(t.shape, t.stride(), t.dtype, t.requires_grad) for t in tensors]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 5), (5,), (0, 5), (2, 3, 5), (1, 2, 3, 5)], ids=str)
def test_fake_cuda_results_have_the_shape_and_strides_of_real_ones(layout, shape, dtype):
    _, weights, biases = draw(SIZE, dtype)
    x = layout(torch.ones(shape, dtype=dtype)) if 0 not in shape else torch.ones(shape, dtype=dtype)
    arguments = cases.Arguments(x, weights, biases)

    def everything(arguments: cases.Arguments, device: str) -> list[tuple]:
        """The engine of autograd wants a driver, so nodes are called here."""
        x, weights, biases = leaves = arguments.requires_grad()
        y = mlp(*leaves)
        layer = linear_relu(x, weights[0], biases[0])
        results = [y, layer, *ops.mlp_forward(*arguments, True)]
        for output in (y, layer):
            with torch.no_grad():  # the fused backward
                results += output.grad_fn(torch.ones_like(output))
            results += output.grad_fn(torch.ones_like(output))  # the one that is differentiable
        return described(results, device)

    real = everything(arguments, "cpu")
    with FakeTensorMode() as mode:
        fake = arguments.map(
            lambda t: mode.from_tensor(t).to("cuda").as_strided(t.shape, t.stride())
        )
        assert everything(fake, "cuda") == real


class Names(TorchDispatchMode):
    """The operators of ours that were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "pyfastnn":
            self.names.append(func.name().removeprefix("pyfastnn::"))
        return func(*args, **(kwargs or {}))


MODULES = {
    "LinearReLU": (lambda: LinearReLU(5, 3), "linear_relu"),
    "MLP": (lambda: MLP([5, 7, 3]), "mlp"),
    "fuse": (lambda: pyfastnn.fuse(hand_written_network([5, 7, 3])), "mlp"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_on_cuda_run_fused_and_reports_say_so(name, monkeypatch):
    monkeypatch.setattr(_chain, "_PLAIN", {*_chain._PLAIN, FakeTensor})  # here they are plain
    make, operator = MODULES[name]
    with FakeTensorMode(), torch.device("cuda"):
        model, x = make(), torch.empty(2, 5)
        with torch.no_grad(), Names() as inference:
            model(x)
        with Names() as training:
            y = model(x)
        report = pyfastnn.fusion_report(model)
    assert inference.names == [operator]
    assert training.names == ["mlp_forward" if operator == "mlp" else operator]
    assert y.grad_fn.name() == ("MlpBackward" if operator == "mlp" else "LinearReluBackward")
    assert report.fused and not report.left


@pytest.mark.parametrize("to", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_for_cuda_casts_cuda_tensors_and_no_others(to):
    torch.set_autocast_dtype("cuda", to)
    torch.set_autocast_enabled("cuda", True)  # torch.autocast refuses to without a device
    try:
        x, weights, biases = draw(SIZE, torch.float32)
        assert mlp(x, weights, biases).dtype == torch.float32
        with FakeTensorMode() as mode:
            x, weights, biases = draw(SIZE, torch.float32).map(
                lambda t: mode.from_tensor(t).to("cuda").requires_grad_()
            )
            assert mlp(x, weights, biases).dtype == to
            layer = linear_relu(x, weights[0], biases[0])
            assert layer.dtype == to
            with torch.no_grad():
                grads = layer.grad_fn(torch.ones_like(layer))
            assert {grad.dtype for grad in grads} == {to}
            wide = [weight.double() for weight in weights]
            assert mlp(x.double(), wide, [None, None]).dtype == torch.float64
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_export_keeps_the_operators():
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        model, x = MLP([5, 7, 3]), torch.empty(4, 5)
        graph = torch.export.export(model, (x,), strict=False).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert called == ["pyfastnn.mlp.default"]


def test_prepack_says_that_it_is_for_the_cpu():
    with FakeTensorMode(), torch.device("cuda"):
        with pytest.raises(RuntimeError, match="prepack: expected dense parameters on the CPU"):
            pyfastnn.prepack(MLP([5, 7, 3]))
