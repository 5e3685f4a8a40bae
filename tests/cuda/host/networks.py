"""The functions of launch.h on numpy arrays; every result starts as NaN."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .arrays import DTYPES
from .build import built
from .device import Device, pointers

_P, _I = ctypes.c_void_p, ctypes.c_int64


class _Layer(ctypes.Structure):
    _fields_ = (("weight", _P), ("bias", _P), ("inputs", _I), ("outputs", _I))


class _Forward(ctypes.Structure):
    _fields_ = (
        ("input", _P),
        ("layers", ctypes.POINTER(_Layer)),
        ("outputs", ctypes.POINTER(_P)),
        ("rows", _I),
        ("depth", _I),
        ("activate_last", ctypes.c_bool),
        ("dtype", ctypes.c_int),
        ("math", ctypes.c_int),
        ("workspace", _P),
    )


class _Backward(ctypes.Structure):
    _fields_ = (
        ("grad_output", _P),
        ("input", _P),
        ("layers", ctypes.POINTER(_Layer)),
        ("outputs", ctypes.POINTER(_P)),
        ("grad_input", _P),
        ("grad_weights", ctypes.POINTER(_P)),
        ("grad_biases", ctypes.POINTER(_P)),
        ("rows", _I),
        ("depth", _I),
        ("activate_last", ctypes.c_bool),
        ("dtype", ctypes.c_int),
        ("math", ctypes.c_int),
        ("workspace", _P),
    )


class _Linear(ctypes.Structure):
    _fields_ = (
        ("input", _P),
        ("weight", _P),
        ("bias", _P),
        ("output", _P),
        ("rows", _I),
        ("inputs", _I),
        ("outputs", _I),
        ("relu", ctypes.c_bool),
        ("dtype", ctypes.c_int),
        ("math", ctypes.c_int),
    )


class _MaskBias(ctypes.Structure):
    _fields_ = (
        ("grad_output", _P),
        ("output", _P),
        ("grad_z", _P),
        ("grad_bias", _P),
        ("rows", _I),
        ("outputs", _I),
        ("dtype", ctypes.c_int),
        ("workspace", _P),
    )


def _checked(status: int) -> None:
    if status:
        raise RuntimeError(f"cudaError {status}")


def linear(
    device: Device,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    dtype: str,
    *,
    relu: bool = True,
    tf32: bool = False,
) -> np.ndarray:
    """``relu(x w^T + b)``."""
    y = device.result((x.shape[0], w.shape[0]), dtype)
    args = _Linear(
        input=device.add(x, "X", read_only=True),
        weight=device.add(w, "W", read_only=True),
        bias=0 if b is None else device.add(b, "b", read_only=True),
        output=device.add(y, "Y"),
        rows=x.shape[0],
        inputs=x.shape[1],
        outputs=w.shape[0],
        relu=relu,
        dtype=DTYPES[dtype].code,
        math=int(tf32),
    )
    _checked(device.call("run_linear", ctypes.byref(args)))
    return y


def mask_bias(
    device: Device,
    dy: np.ndarray,
    y: np.ndarray | None,
    dtype: str,
    *,
    want: str = "zb",
    in_place: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """dZ and db; ``want`` names those that are asked for. ``in_place``: dY becomes dZ."""
    rows, out = dy.shape
    dz, db = device.result(dy.shape, dtype), device.result((out,), dtype)
    code = DTYPES[dtype].code
    size = built().function("size_mask_bias", _I)(_I(rows), _I(out), code)
    args = _MaskBias(
        grad_output=(grad_output := device.add(dy, "dY", read_only=not in_place)),
        output=0 if y is None else device.add(y, "Y", read_only=True),
        grad_z=grad_output if in_place else device.add(dz, "dZ") if "z" in want else 0,
        grad_bias=device.add(db, "db") if "b" in want else 0,
        rows=rows,
        outputs=out,
        dtype=code,
        workspace=device.workspace(size),
    )
    _checked(device.call("run_mask_bias", ctypes.byref(args)))
    return dz, db


@dataclass
class Gradients:
    """Results of a backward; None where not asked for."""

    input: np.ndarray | None
    weights: list[np.ndarray | None] = field(default_factory=list)
    biases: list[np.ndarray | None] = field(default_factory=list)


@dataclass
class Network:
    """Layers as the device holds them, in the bits of ``dtype``."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray | None]
    dtype: str
    activate_last: bool = False
    tf32: bool = False

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.weights)

    def _layers(self, device: Device) -> ctypes.Array[_Layer]:
        layers = (_Layer * self.depth)()
        for index, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            layers[index].weight = device.add(w, f"W{index}", read_only=True)
            layers[index].bias = 0 if b is None else device.add(b, f"b{index}", read_only=True)
            layers[index].outputs, layers[index].inputs = w.shape
        return layers

    def forward(
        self, device: Device, x: np.ndarray, *, keep_hidden: bool = True
    ) -> list[np.ndarray | None]:
        """Outputs of all layers, or of the last alone."""
        rows, code = x.shape[0], DTYPES[self.dtype].code
        outputs: list[np.ndarray | None] = [
            device.result((rows, w.shape[0]), self.dtype)
            if keep_hidden or w is self.weights[-1]
            else None
            for w in self.weights
        ]
        size = built().function("size_network_forward", _I)(_I(rows), _I(self.depth), code)
        args = _Forward(
            input=device.add(x, "X", read_only=True),
            layers=self._layers(device),
            outputs=pointers(
                [0 if y is None else device.add(y, f"Y{i}") for i, y in enumerate(outputs)]
            ),
            rows=rows,
            depth=self.depth,
            activate_last=self.activate_last,
            dtype=code,
            math=int(self.tf32),
            workspace=device.workspace(size),
        )
        _checked(device.call("run_network_forward", ctypes.byref(args)))
        return outputs

    def backward(
        self,
        device: Device,
        dy: np.ndarray,
        x: np.ndarray,
        outputs: Sequence[np.ndarray | None],
        *,
        needs_grad: Sequence[bool] | None = None,
    ) -> Gradients:
        """All gradients, or those of ``needs_grad``: input, weight 0, bias 0, weight 1, ..."""
        rows, code = x.shape[0], DTYPES[self.dtype].code
        needs = list(needs_grad) if needs_grad is not None else [True] * (1 + 2 * self.depth)
        grads = Gradients(device.result(x.shape, self.dtype) if needs[0] else None)
        for index, w in enumerate(self.weights):
            wanted_weight, wanted_bias = needs[1 + 2 * index : 3 + 2 * index]
            grads.weights.append(device.result(w.shape, self.dtype) if wanted_weight else None)
            grads.biases.append(device.result(w.shape[:1], self.dtype) if wanted_bias else None)
        layers = self._layers(device)
        sizes = built().function("size_network_backward", _I)
        size = sizes(_I(rows), layers, _I(self.depth), code)

        def addresses(name: str, arrays: Sequence[np.ndarray | None], read_only: bool) -> list[int]:
            return [
                0 if a is None else device.add(a, f"{name}{i}", read_only=read_only)
                for i, a in enumerate(arrays)
            ]

        args = _Backward(
            grad_output=device.add(dy, "dY", read_only=True),
            input=device.add(x, "X", read_only=True),
            layers=layers,
            outputs=pointers(addresses("Y", outputs, True)),
            grad_input=0 if grads.input is None else device.add(grads.input, "dX"),
            grad_weights=pointers(addresses("dW", grads.weights, False)),
            grad_biases=pointers(addresses("db", grads.biases, False)),
            rows=rows,
            depth=self.depth,
            activate_last=self.activate_last,
            dtype=code,
            math=int(self.tf32),
            workspace=device.workspace(size),
        )
        _checked(device.call("run_network_backward", ctypes.byref(args)))
        return grads
