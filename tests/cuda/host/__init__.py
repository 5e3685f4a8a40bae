"""Runs the host code of csrc/cuda as it is, with kernels executed by the PTX interpreter.

The ``.cu`` files are compiled by nvcc and linked with a runtime of ours in place of NVIDIA's
(``fake_runtime.cpp``): a launch comes back to Python with the kernel's name, its grid and the bytes
of its parameters. So what is tested is everything behind ``launch.h``: choices, pointers,
workspaces, parameters and kernels.
"""

from .arrays import DTYPES, from_bits, to_bits
from .build import SOURCES, built
from .device import Device
from .networks import Network, linear, mask_bias

__all__ = [
    "DTYPES",
    "SOURCES",
    "Device",
    "Network",
    "built",
    "from_bits",
    "linear",
    "mask_bias",
    "to_bits",
]
