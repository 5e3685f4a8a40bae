"""What people do with a model, done with a fused one: transforms, compilers, threads, helpers."""

import copy
import threading

import fusion_models as models
import pytest
import torch
from cases import hand_written_network
from test_fusion import doubled, run, x
from torch import nn
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap

import pyfastnn
from pyfastnn import functional

CLASSES = pytest.mark.parametrize(
    "model_class", [models.Functional, models.Nested, models.Residual]
)


def close(got, want) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)  # float64


@CLASSES
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_has_no_graph_breaks(model_class, dynamic):
    torch._dynamo.reset()
    plain, fused = doubled(model_class)
    fused(x())  # before it is compiled
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for rows in (5, 5, 8):
        close(run(compiled, x(rows)), run(plain, x(rows)))


@pytest.mark.parametrize("model_class", models.FUSED)
def test_a_compiled_model_calls_the_operator(model_class):
    torch._dynamo.reset()
    plain, fused = doubled(model_class)
    fused(x())
    code = []

    def backend(graph, _):
        code.append(graph.code)
        return graph

    torch.manual_seed(1)
    got = torch.compile(fused, fullgraph=True, backend=backend)(x())
    torch.manual_seed(1)
    close(got, plain(x()))
    assert "pyfastnn.mlp" in code[0]


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    plain, fused = doubled(models.Nested)
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(fused, (x(),), dynamic_shapes=({0: rows},), strict=strict)
    close(program.module()(x(9)), plain(x(9)))


@CLASSES
def test_transforms_of_torch_func(model_class):
    plain, fused = doubled(model_class)
    parameters = dict(plain.named_parameters())
    tangents = {name: torch.ones_like(p) for name, p in parameters.items()}

    def call(model, parameters, x):
        outputs = functional_call(model, parameters, (x,))
        return outputs[0] + outputs[1] if isinstance(outputs, tuple) else outputs

    def compare(transform) -> None:
        got, want = (transform(lambda *args, m=m: call(m, *args)) for m in (fused, plain))
        close(got, want)

    compare(lambda f: grad(lambda p: f(p, x()).square().sum())(parameters))
    compare(lambda f: vmap(lambda row: f(parameters, row))(x()))
    compare(
        lambda f: vmap(grad(lambda p, row: f(p, row).square().sum()), (None, 0))(parameters, x())
    )
    compare(lambda f: jacrev(lambda x: f(parameters, x))(x(2)))
    compare(lambda f: jacfwd(lambda x: f(parameters, x))(x(2)))
    compare(lambda f: jvp(lambda p: f(p, x()), (parameters,), (tangents,)))


def test_an_ensemble():
    members = [models.Functional().double() for _ in range(3)]
    for index, member in enumerate(members):
        nn.init.constant_(member.fc1.bias, 0.1 * index)
    parameters, buffers = stack_module_state([pyfastnn.fuse(member) for member in members])
    skeleton = pyfastnn.fuse(copy.deepcopy(members[0])).to("meta")

    rows = x()

    def call(parameters, buffers):
        return functional_call(skeleton, (parameters, buffers), (rows,))

    close(vmap(call)(parameters, buffers), torch.stack([member(rows) for member in members]))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_jit_trace_records_plain_layers():
    plain, fused = doubled(models.Functional)
    traced = torch.jit.trace(fused, x())
    with torch.no_grad():
        for model in (plain, fused):
            model.fc1.weight.mul_(2)
    close(traced(x(7)), plain(x(7)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_jit_script_compiles_the_forward_as_written():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(x))

    fused = pyfastnn.fuse(Net().double())
    fused(x())
    close(torch.jit.script(fused)(x()), pyfastnn.unfuse(fused)(x()))
    assert pyfastnn.fusion_report(fused).fused


def test_symbolic_trace_sees_the_forward_as_written():
    plain, fused = doubled(models.Functional)
    fused(x())
    graph = torch.fx.symbolic_trace(fused)
    assert str(graph.graph) == str(torch.fx.symbolic_trace(plain).graph)
    close(graph(x()), plain(x()))


def test_fake_and_meta_tensors():
    _, fused = doubled(models.Nested)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert fused(mode.from_tensor(x())).shape == (5, 3)
    assert copy.deepcopy(fused).to("meta")(x().to("meta")).shape == (5, 3)


def test_autocast_follows_the_layers():
    plain = models.Functional()
    fused = pyfastnn.fuse(models.Functional())
    with torch.autocast("cpu", torch.bfloat16):
        got, want = fused(x().float()), plain(x().float())
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), want.float(), rtol=0.02, atol=0.02)  # bfloat16
    got.float().sum().backward()
    assert fused.fc1.weight.grad.dtype == torch.float32


def test_threads_may_make_the_first_call_together():
    plain, fused = doubled(models.DropoutAndNorm)
    plain.eval()
    fused.eval()
    want, wrong = plain(x()), []
    ready = threading.Barrier(8)

    def call(model) -> None:
        ready.wait()
        for _ in range(20):
            if not torch.allclose(model(x()), want, rtol=1e-12):
                wrong.append(model)

    threads = [threading.Thread(target=call, args=(model,)) for model in [fused, plain] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_checkpointing_and_saved_tensor_hooks():
    plain, fused = doubled(models.Nested)
    want = run(plain, x())
    for reentrant in (False, True):
        got = run(_Checkpointed(fused, reentrant), x())
        close(got, want)
    with torch.autograd.graph.save_on_cpu():
        close(run(fused, x()), want)


class _Checkpointed(nn.Module):
    def __init__(self, model, reentrant):
        super().__init__()
        self.model, self.reentrant = model, reentrant

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.model, x, use_reentrant=self.reentrant)


def test_averaged_models():
    plain, fused = doubled(models.Functional)
    averages = [torch.optim.swa_utils.AveragedModel(model) for model in (plain, fused)]
    for model, average in zip((plain, fused), averages, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(3):
            optimizer.zero_grad()
            model(x(4 + step)).square().sum().backward()
            optimizer.step()
            average.update_parameters(model)
    close(averages[1](x()), averages[0](x()))
    assert pyfastnn.fusion_report(averages[1]).fused


def test_a_fused_sequential_trains_in_one_call_and_packs():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    fused = pyfastnn.fuse(copy.deepcopy(plain))
    target = torch.randint(3, (5,))
    for model in (plain, fused):
        step = pyfastnn.TrainStep(
            model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.1)
        )
        for _ in range(3):
            step(x().float(), target)
            model(x().float())
    for p, q in zip(plain.parameters(), fused.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(pyfastnn.prepack(fused)(x().float()), pyfastnn.prepack(plain)(x().float()))


def test_a_profiler_of_python_survives_a_trace():
    import cProfile

    fused = pyfastnn.fuse(models.Functional())
    profiler = cProfile.Profile()
    profiler.enable()
    fused.eval()
    fused(torch.ones(2, 4))
    sum(range(10))
    profiler.disable()
    assert any("sum" in str(entry.code) for entry in profiler.getstats())


def test_plain_layers_do_not_hide_that_a_device_cannot_run_the_kernels(monkeypatch):
    def broken(*_):
        raise torch.AcceleratorError("no kernel image is available")

    fused = pyfastnn.fuse(hand_written_network([4, 5, 3]))
    monkeypatch.setattr(functional, "mlp", broken)
    with pytest.raises(torch.AcceleratorError, match="no kernel image"):
        fused(torch.ones(2, 4))
