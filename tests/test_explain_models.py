"""explain_backward on models of every kind, fused and not; nothing of them is changed."""

import copy
import subprocess
import sys

import pytest
import torch
from fusion_models import FUSED
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import pyfastnn
from pyfastnn import explain_backward, layer_outputs


def squares(output, target=None) -> Tensor:
    """Sum the squares of all tensors in an output."""
    if isinstance(output, Tensor):
        return output.square().sum()
    entries = output.values() if isinstance(output, dict) else output
    return sum(map(squares, entries), torch.zeros(()))


def explain(model: nn.Module, features: int = 4):
    torch.manual_seed(1)
    return explain_backward(model, torch.randn(8, features, dtype=dtype_of(model)), None, squares)


def dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def names(trace) -> list[str]:
    return [layer.name for layer in trace.layers]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", FUSED, ids=lambda make: make.__name__)
def test_fused_and_plain_models_give_the_same_trace(make, training):
    plain = make().train(training)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        plain = plain.to(dtype)
        if hasattr(plain, "plain"):
            plain.plain = plain.plain.to(dtype)
        fused = pyfastnn.fuse(plain)
        assert pyfastnn.fusion_report(fused).fused
        want, got = explain(plain), explain(fused)
        assert len(want.layers) >= 2
        assert names(got) == names(want)
        assert got.scalars() == pytest.approx(want.scalars(), rel=close, abs=close)
        check, other = (trace.weight(names(want)[-1], 0, 1) for trace in (want, got))
        assert check.slope == pytest.approx(other.slope, rel=1e-6, abs=1e-9)


def test_every_way_to_write_a_layer_has_the_same_name():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    ours = pyfastnn.MLP([4, 6, 3])
    single = nn.Sequential(pyfastnn.LinearReLU(4, 6), nn.Identity(), nn.Linear(6, 3))
    operator = copy.deepcopy(plain)
    operator.forward = lambda x: torch.ops.pyfastnn.mlp(
        x, [operator[0].weight, operator[2].weight], [operator[0].bias, operator[2].bias]
    )
    for model in (ours, single):
        model.load_state_dict(plain.state_dict())
    want = explain(plain)
    assert names(want) == ["2", "relu(0)", "0"]
    for model in (ours, single, operator, pyfastnn.fuse(plain), nn.DataParallel(plain)):
        got = explain(model)
        assert names(got) == names(want)
        assert got.scalars() == pytest.approx(want.scalars(), rel=1e-5)


def test_a_layer_alone_and_parameters_of_other_names():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.ones(3, 4))

        def forward(self, x):
            return F.relu(F.linear(input=x, weight=self.first))

    assert names(explain(nn.Linear(4, 3))) == ["model"]
    assert names(explain(Bare())) == ["relu(first)", "first"]
    assert explain(nn.Linear(4, 3)).weight("model", 0, 0).switched == 0


def test_a_layer_called_twice_has_two_lines_and_one_gradient():
    linear = nn.Linear(4, 4)
    trace = explain(nn.Sequential(linear, nn.ReLU(), linear))
    assert names(trace) == ["0#2", "relu(0)", "0"]
    first, second = trace["0"], trace["0#2"]
    assert first.weight_gradient_norm == second.weight_gradient_norm
    assert first.error_share == second.error_share == 1
    assert abs(trace.weight("0", 1, 1).difference) < 1e-8


def test_layers_that_compute_their_weight_keep_their_names():
    model = pyfastnn.MLP([4, 6, 5, 3])
    parametrizations.weight_norm(model[0])
    prune.l1_unstructured(model[2], "weight", 0.5)
    trace = explain(model)
    assert names(trace) == ["4", "relu(2)", "2", "relu(0)", "0"]
    assert trace["0"].weight_gradient_norm > 0 and trace["2"].weight_gradient_norm > 0
    for name in ("0", "2"):
        with pytest.raises(ValueError, match=f"{name} computes its weight"):
            trace.weight(name, 0, 0)
    assert abs(trace.weight("4", 0, 0).difference) < 1e-8


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.fc.weight)

    def forward(self, x):
        return 3 * x + self.fc(x)


def test_the_gradient_that_goes_out_is_only_what_came_through_the_layer():
    trace = explain(Residual(), features=2)
    assert trace["fc"].factor == pytest.approx(1)  # and not 4


def test_other_operations_between_layers_are_told():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(-1))
    lines = [line.strip().split(":")[0] for line in str(explain(model)).splitlines()[3:]]
    assert lines == ["(other operations)", "2", "(other operations)", "0", "input"]
    assert "other" not in str(explain(pyfastnn.MLP([4, 6, 3])))


def test_units_of_a_relu_over_pixels_are_not_judged():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    trace = explain_backward(model, torch.randn(5, 1, 4, 4), None, squares)
    assert names(trace) == ["3", "relu[0]"]
    assert trace["relu[0]"].dead_share is None and trace["relu[0]"].gradient_out > 0
    behind = nn.Sequential(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3)), *model)
    behind[2] = nn.Conv2d(1, 2, 2)
    trace = explain(behind)
    assert names(trace) == ["5", "relu[1]", "0"] and trace["relu[1]"].dead_share is None


def test_inputs_without_a_gradient_and_parts_without_autograd():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.fc, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                side = self.fc(self.table(x))
            return self.head(F.relu(self.fc(self.table(x)))) + self.head(side)

    trace = explain_backward(Embedded(), torch.arange(9), None, squares)
    assert trace["fc"].gradient_in is None and trace["fc"].factor is None
    assert trace["fc#2"].gradient_out > 0
    assert names(trace) == ["head#2", "head", "relu(fc#2)", "fc#2", "fc"]
    whole = explain_backward(nn.Sequential(nn.Linear(4, 2)), torch.ones(2, 4), None, squares)
    assert whole["0"].gradient_out > 0


def test_a_layer_that_the_loss_does_not_use_gets_a_gradient_of_zero():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.extra = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            self.extra(x)
            return self.fc(x)

    trace = explain(Unused())
    assert trace["extra"].gradient_in == 0 and trace["extra"].factor is None
    assert trace["extra"].weight_gradient_norm is None


@pytest.mark.parametrize("make", [pyfastnn.MLP, lambda sizes: pyfastnn.unfuse(pyfastnn.MLP(sizes))])
def test_checkpoints_autocast_and_compiled_models(make):
    torch.manual_seed(0)
    model = make([4, 6, 3])
    want = explain(model).scalars()

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return checkpoint(self.model, x, use_reentrant=False)

    got = explain(Checkpointed()).scalars()
    assert list(got.values()) == pytest.approx(list(want.values()))
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(8, 4))
    assert list(explain(compiled).scalars().values()) == pytest.approx(list(want.values()))
    with torch.autocast("cpu", torch.bfloat16):
        lower = explain(model).scalars()
    assert lower.keys() == want.keys() and lower != want


def test_layer_outputs_are_those_of_the_layers_even_if_a_relu_works_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)).double()
    x = torch.randn(8, 4).double()
    for each in (model, pyfastnn.fuse(model)):
        got = layer_outputs(each, x)
        assert list(got) == ["0", "relu(0)", "2"]
        torch.testing.assert_close(got["0"], F.linear(x, model[0].weight, model[0].bias).detach())
        assert (got["0"] < 0).any() and torch.equal(got["relu(0)"], got["0"].relu())
        torch.testing.assert_close(got["2"], model(x).detach())
        assert not any(output.requires_grad for output in got.values())
    with pytest.raises(TypeError, match="layer_outputs: expected model to be"):
        layer_outputs(x, x)


def state_of(model: nn.Module) -> list:
    tensors = [*model.parameters(), *model.buffers()]
    modules = [
        (type(module), module.training, {k: str(v) for k, v in module.__dict__.items()})
        for module in model.modules()
    ]
    kept = [(id(t), t._version, t._backward_hooks, t.requires_grad, str(t.grad)) for t in tensors]
    values = [tensor.detach().clone() for tensor in tensors]
    return [modules, kept, str(values), torch.get_rng_state().tolist(), torch.is_grad_enabled()]


@pytest.mark.parametrize("change", [lambda model: model, pyfastnn.fuse], ids=["plain", "fused"])
def test_nothing_is_changed(change):
    class Counted(nn.Sequential):
        def forward(self, x):
            self.count = getattr(self, "count", 0) + 1
            return super().forward(x)

    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6))
    model = Counted(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), change(inner), nn.ReLU()
    )
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    model[4].eval()
    x = torch.randn(8, 4)
    model(x).sum().backward()
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    before = state_of(model)
    trace = explain_backward(model, x, None, squares, optimizer=optimizer)
    trace.weight("0", 0, 0), str(trace), layer_outputs(model, x)
    with torch.no_grad():
        explain_backward(model, x, None, squares)
    with torch.inference_mode():
        explain_backward(model, x + 0, None, squares)
    assert state_of(model) == before
    assert x.grad is None and not x.requires_grad


def test_an_error_leaves_nothing_behind():
    model, x = pyfastnn.MLP([4, 6, 3]), torch.randn(8, 5)
    before = state_of(model)
    with pytest.raises(RuntimeError, match="mlp: expected"):
        explain_backward(model, x, None, squares)
    assert state_of(model) == before
    assert torch.overrides._get_current_function_mode() is None


def test_importing_pyfastnn_imports_neither_matplotlib_nor_tensorboard():
    code = (
        "import sys, pyfastnn; "
        "sys.exit(any(m.split('.')[0] in ('matplotlib', 'tensorboard') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
