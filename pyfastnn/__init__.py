"""Fused Linear+ReLU layers for PyTorch: the same function and the same gradients, faster."""

from importlib import metadata as _metadata

from pyfastnn import _loading

_loading.check_build()  # before _C: a module built for another torch dies of an undefined symbol

from pyfastnn import _C as _C  # noqa: E402 - registers torch.ops.pyfastnn
from pyfastnn import _batching as _batching  # noqa: E402 - vmap rules of these operators
from pyfastnn import _decompositions as _decompositions  # noqa: E402 - what ONNX export writes
from pyfastnn import _flops as _flops  # noqa: E402 - what FlopCounterMode counts
from pyfastnn import _inductor as _inductor  # noqa: E402 - what torch.compile may call
from pyfastnn import autograd, functional, plot  # noqa: E402
from pyfastnn.explain import (  # noqa: E402
    BackwardLogger,
    BackwardTrace,
    explain_backward,
    layer_outputs,
)
from pyfastnn.fusion import FusionReport, fuse, fusion_report, unfuse  # noqa: E402
from pyfastnn.isa import active_isa, available_isas, force_isa  # noqa: E402
from pyfastnn.modules import MLP, LinearReLU  # noqa: E402
from pyfastnn.packing import prepack  # noqa: E402
from pyfastnn.training import TrainStep  # noqa: E402

try:
    __version__ = _metadata.version("pyfastnn")
except _metadata.PackageNotFoundError:  # a source tree on sys.path, built in place
    __version__ = "0.1.0"

__all__ = [
    "MLP",
    "BackwardLogger",
    "BackwardTrace",
    "FusionReport",
    "LinearReLU",
    "TrainStep",
    "__version__",
    "active_isa",
    "autograd",
    "available_isas",
    "explain_backward",
    "force_isa",
    "functional",
    "fuse",
    "fusion_report",
    "layer_outputs",
    "plot",
    "prepack",
    "unfuse",
]
