"""What the tests on a CUDA device share; importing it skips a module that has none to run on."""

import pytest
import torch
from cases import Arguments

from pyfastnn import functional
from pyfastnn.functional import mlp

if not torch.cuda.is_available():
    pytest.skip("NOT RUN: no CUDA device; no kernel has run here", allow_module_level=True)
if not functional.CUDA_IS_BUILT:
    pytest.skip("NOT RUN: pyfastnn was built without CUDA", allow_module_level=True)

DEVICE = torch.device("cuda")


@pytest.fixture(params=["auto", "torch", "own"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYFASTNN_CUDA_KERNELS", request.param)
    return request.param


def there(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(DEVICE)


def here(tensors) -> list[torch.Tensor]:
    return [tensor.detach().cpu() for tensor in tensors]


def outputs_and_gradients(
    arguments: Arguments, grad_output: torch.Tensor | None = None, activate_last: bool = False
) -> list[torch.Tensor]:
    """The output of mlp and all gradients; with copies to the device only of a grad_output."""
    leaves = arguments.requires_grad()
    y = mlp(*leaves, activate_last)
    grad = torch.ones_like(y) if grad_output is None else there(grad_output)
    return [y.detach(), *torch.autograd.grad(y, leaves.tensors(), grad)]
