"""A build without CUDA and tensors on a CUDA device: plain layers or a clear error."""

import pytest
import torch
from cases import hand_written_network
from torch import nn
from torch._C import DispatchKey, DispatchKeySet
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import pyfastnn
from pyfastnn import MLP, LinearReLU, functional
from pyfastnn.fusion import _chain

pytestmark = pytest.mark.skipif(functional.CUDA_IS_BUILT, reason="this build has CUDA kernels")

SIZES = [5, 7, 3]
X, W, B = torch.ones(2, 5), torch.ones(7, 5), torch.ones(7)
CALLS = {
    "linear_relu": (X, W, B),
    "mlp": (X, [W], [B], True),
    "mlp_forward": (X, [W], [B], True),
    "mlp_backward": (torch.ones(2, 7), X, [W], [torch.ones(2, 7)], True, [True] * 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_operators_say_what_to_do(name):
    op = getattr(torch.ops.pyfastnn, name).default
    with pytest.raises(RuntimeError, match=f"{name}: pyfastnn was built without CUDA; move the"):
        op.redispatch(DispatchKeySet(DispatchKey.CUDA), *CALLS[name])


class Names(TorchDispatchMode):
    """The operators that were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


MODULES = {
    "LinearReLU": lambda: LinearReLU(5, 3),
    "MLP": lambda: MLP(SIZES),
    "fuse": lambda: pyfastnn.fuse(hand_written_network(SIZES)),
    "fuse with LinearReLU": lambda: pyfastnn.fuse(nn.Sequential(LinearReLU(5, 7), nn.Linear(7, 3))),
}


def fake(model, device):
    """New parameters on a device, where a torch without CUDA can neither draw nor differentiate."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            there = nn.Parameter(torch.empty(parameter.shape, device=device))
            module.register_parameter(name, there)
    return model


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_run_plain_layers_and_reports_say_so(name, device, monkeypatch):
    monkeypatch.setattr(_chain, "_PLAIN", {*_chain._PLAIN, FakeTensor})  # here they are plain
    model = MODULES[name]()
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty(2, 5, device=device)
        fake(model, device)
        with Names() as seen:
            y = model(x)
        assert y.shape == (2, 3) and y.device.type == device
        fused = [operator for operator in seen.names if operator.startswith("pyfastnn")]
        report = pyfastnn.fusion_report(model)
    if device == "cpu":
        assert len(fused) == 1 and report.fused and not report.left
    else:
        assert not fused and not report.fused
        (reason,) = report.left.values()
        assert reason.endswith("is on a CUDA device, and pyfastnn was built without CUDA")


def test_the_modules_of_a_network_tell_why():
    model = MLP(SIZES)
    with FakeTensorMode():
        fake(model, "cuda")
        reason = "it is on a CUDA device, and pyfastnn was built without CUDA"
        assert model.fallback_reason() == reason
        assert reason in repr(model)
