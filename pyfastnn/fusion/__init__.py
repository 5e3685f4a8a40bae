"""Makes the model that you have run fused: every chain of Linear and ReLU becomes one call."""

from __future__ import annotations

import warnings
from typing import TypeVar, overload

from torch import fx, nn
from torch.jit import ScriptModule

from pyfastnn.fusion import _classes
from pyfastnn.fusion._chain import is_linear
from pyfastnn.fusion._copy import copy_sharing_tensors
from pyfastnn.fusion._report import FusionReport, nothing_fused, report_on
from pyfastnn.modules import MLP, LinearReLU

__all__ = ["FusionReport", "fuse", "fusion_report", "unfuse"]

Model = TypeVar("Model", bound=nn.Module)


def fuse(model: Model, inplace: bool = False) -> Model:
    """Make every chain of Linear and ReLU in a model run as one fused call.

    Chains are found in ``nn.Sequential`` at any depth and in hand-written ``forward`` methods
    (``F.relu(self.fc(x))``, ``torch.relu``, ``x.relu()``, ``self.act(self.fc(x))``), which are
    traced with ``torch.fx``. Other layers stay what they are. Dropout in evaluation does not break
    a chain.

    The result has the same classes (``isinstance``), the same parameters under the same names, the
    same hooks and methods; it can be trained, copied, pickled, saved and loaded like the original.
    What a forward reads from Python (attributes, globals, lists) is compared at every call, and
    where a fused call would not be right, for example because a layer has a hook, the layers run
    one by one; :func:`fusion_report` says where and why.

    Args:
        model: any ``nn.Module``.
        inplace: change ``model`` itself. Otherwise the result is a deep copy around the same
            parameters and buffers: training one trains both.

    Returns:
        The fused model, of a class derived from the model's.

    Raises:
        TypeError: if ``model`` is not a module, or cannot be copied.

    Warns:
        UserWarning: if there was nothing to fuse, with the reasons.

    Note:
        ``torch.export`` and ``torch.fx`` see the forward as it was written. ``torch.compile`` sees
        the fused calls if the model has been called, in this mode and with such arguments, before
        it is compiled; else PyTorch's own operations, as on devices other than the CPU.

    Example:
        >>> model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        >>> model = pyfastnn.fuse(model)
    """
    _check("fuse", model)
    if not inplace:
        model = copy_sharing_tensors(model)  # type: ignore[assignment]
    for module in model.modules():
        if _may_have_chains(module):
            _classes.enter(module)
    if not any(map(_is_ours, model.modules())):
        warnings.warn(f"fuse: nothing to fuse: {nothing_fused(model)}", UserWarning, stacklevel=2)
    return model


@overload
def unfuse(model: MLP, inplace: bool = False) -> nn.Sequential: ...


@overload
def unfuse(model: Model, inplace: bool = False) -> Model: ...


def unfuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Give back plain PyTorch: the classes that the model had before :func:`fuse`.

    An :class:`pyfastnn.MLP` becomes an ``nn.Sequential`` of the same children. A
    :class:`pyfastnn.LinearReLU` stays: no module of PyTorch has its ``state_dict``.

    Args:
        model: any ``nn.Module``.
        inplace: change ``model`` itself, else a copy around the same parameters and buffers.

    Returns:
        The plain model.

    Raises:
        TypeError: if ``model`` is not a module.

    Example:
        >>> plain = pyfastnn.unfuse(pyfastnn.fuse(model))
    """
    _check("unfuse", model)
    if not inplace:
        model = copy_sharing_tensors(model)
    for module in model.modules():
        if _classes.is_fused(module):
            _classes.leave(module)
        elif type(module) is MLP:
            module.__class__ = nn.Sequential  # type: ignore[assignment]
    return model


def fusion_report(model: nn.Module) -> FusionReport:
    """Tell what of a model runs fused, and why the rest does not.

    The report is about the model as it is now: its hooks, its training or evaluation mode, and,
    where the model has been called, the arguments it was called with.

    Args:
        model: any ``nn.Module``, fused or not.

    Returns:
        A :class:`FusionReport`; ``print`` it, or read its ``fused`` and ``left``.

    Raises:
        TypeError: if ``model`` is not a module.

    Example:
        >>> print(pyfastnn.fusion_report(model))
        fused:
          0 .. 2: 784-128-10
    """
    _check("fusion_report", model)
    return report_on(model)


def _check(who: str, model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: expected model to be an nn.Module, got {type(model).__name__}")


def _may_have_chains(module: nn.Module) -> bool:
    """Leave alone what torch and pyfastnn wrote, but for Sequential, and traced programs."""
    if isinstance(module, (MLP, LinearReLU, ScriptModule, fx.GraphModule, _classes.Fused)):
        return False
    if "forward" in module.__dict__ or not any(map(is_linear, module.modules())):
        return False
    return type(module) is nn.Sequential or not type(module).__module__.startswith("torch.")


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, (_classes.Fused, MLP, LinearReLU))
