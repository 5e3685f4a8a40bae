"""Programs that leave Python: torch.export, AOTInductor, ONNX, torch.jit, torch.fx."""

import io
from pathlib import Path

import onnxruntime
import pytest
import torch
from cases import Size
from functions import assert_close, draw_smooth, function_mlp, fused_mlp, plain_mlp
from models import MODULES, PAIRS, gradients, layers, networks
from tolerance import assert_same_bits
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyfastnn import MLP, LinearReLU

ROWS = ({0: torch.export.Dim("rows", min=2)},)


@pytest.mark.parametrize("strict", [False, True])
@MODULES
def test_an_exported_program_keeps_the_operator_and_can_be_saved(make_pair, strict):
    model, _, x = make_pair()
    program = torch.export.export(model, (x,), dynamic_shapes=ROWS, strict=strict)
    saved = io.BytesIO()
    torch.export.save(program, saved)
    saved.seek(0)
    x = torch.randn(11, 5, dtype=torch.float64)
    for version in (program, torch.export.load(saved), program.run_decompositions()):
        assert "torch.ops.pyfastnn." in version.graph_module.code
        assert_same_bits(version.module()(x).detach(), model(x).detach())


@PAIRS
def test_an_exported_training_graph_gives_the_gradients(make_pair):
    model, theirs, x = make_pair()
    module = torch.export.export(model, (x,)).module()
    for function in (module, theirs):
        function(x).square().sum().backward()
    grads = dict(module.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert_close(grads[name].grad, parameter.grad)


def test_an_aotinductor_package_runs_the_operators(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")  # PyTorch checks more there

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.network = LinearReLU(5, 7), MLP([7, 6, 3])

        def forward(self, x):
            return self.network(self.layer(x))

    model, x = Both().eval(), torch.randn(6, 5)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=ROWS)
        path = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(tmp_path / "model.pt2"),
            inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},  # g++ takes long
        )
        compiled = torch._inductor.aoti_load_package(path)
        for rows in (6, 11):
            x = torch.randn(rows, 5)
            assert_same_bits(compiled(x), model(x))


ONNX = [
    (layers, (9, 5), ["Gemm", "Relu"]),
    (networks, (9, 5), ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]),
    (networks, (2, 9, 5), ["MatMul", "Add", "Relu", "MatMul", "Add", "Relu", "MatMul", "Add"]),
]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("make_pair, shape, nodes", ONNX)
def test_onnx_export_writes_standard_nodes(make_pair, shape, nodes, tmp_path: Path):
    model = make_pair(torch.float32).ours.eval()
    program = torch.onnx.export(
        model, (torch.randn(shape),), dynamo=True, dynamic_shapes=ROWS, verbose=False
    )
    assert [(node.domain, node.op_type) for node in program.model.graph] == [
        ("", node) for node in nodes
    ]
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = torch.randn(4, *shape[1:])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), model(x).detach())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@MODULES
def test_jit_tracing_bakes_nothing_in(make_pair):
    model, _, x = make_pair()
    traced = torch.jit.trace(model, x)
    assert ("pyfastnn::linear_relu" in str(traced.graph)) == isinstance(model, LinearReLU)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    x = torch.randn(11, 5, dtype=torch.float64)
    assert_close(traced(x), model(x))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("function", [fused_mlp, function_mlp])
def test_jit_tracing_of_functions_records_what_they_compute(function):
    arguments = tuple(t.detach() for t in draw_smooth(Size(3, (4, 6, 2))))
    traced = torch.jit.trace(function, arguments)
    arguments = draw_smooth(Size(7, (4, 6, 2)))
    got, want = traced(*arguments), plain_mlp(*arguments)
    assert_close(got, want)
    assert_close(*(torch.autograd.grad(y.square().sum(), arguments) for y in (got, want)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@MODULES
def test_jit_scripting_is_refused_and_the_message_says_what_to_do(make_pair):
    model, theirs, x = make_pair()
    for module in (model, nn.Sequential(model, nn.Tanh())):
        message = f"cannot compile {type(model).__name__}: use torch.export or torch.jit.trace"
        with pytest.raises(RuntimeError, match=message):
            torch.jit.script(module)
    if isinstance(model, MLP):
        scripted = torch.jit.script(model[:])
        assert_close(gradients(scripted, x), gradients(theirs, x))


@pytest.mark.parametrize("options", [dict(tracing_mode="symbolic"), dict(pre_dispatch=True)])
def test_make_fx_records_the_operator(options):
    arguments = [t.detach() for t in draw_smooth(Size(3, (4, 6, 2)))]
    graph = make_fx(torch.func.functionalize(fused_mlp), **options)(*arguments)
    assert "pyfastnn.mlp" in graph.code
    assert_close(graph(*arguments), plain_mlp(*arguments))


def test_symbolic_tracing_records_the_operator():
    graph = torch.fx.symbolic_trace(LinearReLU(5, 3))
    assert any("linear_relu" in str(node.target) for node in graph.graph.nodes)
