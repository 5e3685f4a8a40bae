"""Runs a model once, forward and backward, and leaves everything as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.jit import ScriptModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pyfastnn.explain._record import Call, Recorder
from pyfastnn.fusion._copy import copy_sharing_tensors

LossFn = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Pass:
    """What one run of a model and its loss gave.

    Attributes:
        loss: a tensor with one number.
        calls: the layers in the order in which they ran.
        end: watches the output of the model.
        gradients: by id of the parameter.
    """

    loss: Tensor
    calls: list[Call]
    end: Call
    gradients: dict[int, Tensor | None]


def checked_model(model: object, who: str) -> nn.Module:
    """Return the model, out of wrappers that would send its gradients to other processes."""
    if isinstance(model, (DataParallel, DistributedDataParallel)):
        model = model.module
    if isinstance(model, ScriptModule):
        raise TypeError(f"{who}: TorchScript hides its layers; give the model it was made from")
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: expected model to be an nn.Module, got {type(model).__name__}")
    return model


def copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a copy of the modules around changed parameters and buffers; ties between them stay.

    A tensor that ``change`` returns as it is belongs to both.
    """
    twin = copy_sharing_tensors(model)
    changed: dict[int, Any] = {}
    for module in twin.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    if id(tensor) not in changed:
                        changed[id(tensor)] = change(tensor)
                    tensors[name] = changed[id(tensor)]
    return twin


def run(model: nn.Module, x: Tensor, target: Any, loss_fn: LossFn, who: str) -> Pass:
    """Run forward, loss and backward, and look at every layer.

    Raises:
        ValueError: if there is no layer to be seen, or ``loss_fn`` does not return one number that
            depends on the model.
    """
    leaf = x.detach().clone().requires_grad_(x.is_floating_point())
    wanted = [leaf] * leaf.requires_grad + [p for p in model.parameters() if p.requires_grad]
    with nothing_changed(model, x):
        twin = _with_own_buffers(model)
        with Recorder(twin) as recorder:
            output = twin(leaf.clone())
            recorder.is_recording = False  # a loss, or a checkpoint in the backward, has layers too
            end = Call("output", "output", 0, 0)
            if isinstance(output, Tensor):
                end.watch(output, "gradient_in")
            loss = loss_fn(output, target.clone() if isinstance(target, Tensor) else target)
            _check(loss, recorder.calls, who)
            found = _gradients(loss, wanted)
    gradients: dict[int, Tensor | None] = {
        id(tensor): grad for tensor, grad in zip(wanted, found, strict=True)
    }
    return Pass(loss, recorder.calls, end, gradients)


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return a copy of what every layer gives out, by its name, in the order of the calls."""
    with nothing_changed(model, x), torch.no_grad():
        twin = _with_own_buffers(model)
        with Recorder(twin, keep=True) as recorder:
            twin(x.detach().clone())
    return {call.name: call.output for call in recorder.calls if call.output is not None}


@contextmanager
def nothing_changed(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Put random numbers back; have gradients, whatever mode the caller is in; do not compile."""
    devices = {t.device for t in (x, *model.parameters()) if t.device.type == "cuda"}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(list(devices)))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes long
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def random_state(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that makes the random numbers that come next come again."""
    devices = {t.device for t in (x, *model.parameters()) if t.device.type == "cuda"}
    state = torch.get_rng_state()
    of_devices = {device: torch.cuda.get_rng_state(device) for device in devices}

    def restore() -> None:
        torch.set_rng_state(state)
        for device, of_device in of_devices.items():
            torch.cuda.set_rng_state(of_device, device)

    return restore


def _gradients(loss: Tensor, wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Do what torch.autograd.grad does, with the recorder at work.

    ``grad`` itself would leave the recorder for the time of the backward, in which checkpoints run
    the forward again and must do the same as the first time.
    """
    return _engine_run_backward(
        (loss,),
        (torch.ones_like(loss),),
        False,  # keep the graph
        False,  # make a graph of the backward
        tuple(wanted),
        allow_unreachable=True,
        accumulate_grad=False,
    )


def _with_own_buffers(model: nn.Module) -> nn.Module:
    return copy_with(model, lambda t: t if isinstance(t, nn.Parameter) else t.clone())


def _check(loss: object, calls: list[Call], who: str) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{who}: expected loss_fn to return a tensor of one number, got {what}")
    if not calls:
        raise ValueError(
            f"{who}: the model ran without a linear layer or ReLU that can be seen: expected "
            "nn.Linear, nn.ReLU, their functions, or pyfastnn's"
        )
    if not loss.requires_grad:
        raise ValueError(f"{who}: the loss depends neither on x nor on a parameter that is trained")
