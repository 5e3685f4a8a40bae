from collections.abc import Sequence
from typing import Any

from torch import Tensor

def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def set_isa(name: str) -> None: ...
def torch_version() -> str: ...

# NotImplemented where torch.ops must decide.
def linear_relu(input: object, weight: Tensor, bias: Tensor | None, /) -> Tensor: ...
def mlp(
    input: object,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activate_last: bool,
    /,
) -> Tensor: ...
def is_sparse(object: object, /) -> bool:
    """Whether it is a tensor with a sparse layout."""

class PackedMlp:
    def forward(self, input: Tensor) -> Tensor: ...
    def weights(self) -> list[Tensor]: ...
    def biases(self) -> list[Tensor | None]: ...

def prepack(
    weights: Sequence[Tensor], biases: Sequence[Tensor | None], relu: Sequence[bool]
) -> PackedMlp: ...

class Snapshot:
    def __init__(
        self,
        dicts: list[dict[Any, Any]],
        lists: list[list[Any]],
        tensors: list[Tensor],
    ) -> None: ...
    def holds(self) -> bool: ...

class PlannedParameter:
    def __init__(
        self,
        tensor: Tensor | None,
        group: int,
        state: Sequence[Tensor],
        step: Tensor | None,
        first: bool,
    ) -> None: ...

class TrainInput:
    def __init__(self, crow: Tensor, col: Tensor, values: Tensor, columns: int) -> None: ...

class TrainPlan:
    def __init__(
        self,
        parameters: Sequence[PlannedParameter],
        relu: Sequence[bool],
        loss: str,
        mean: bool,
        label_smoothing: float,
        ignore_index: int,
        optimizer: str,
        compute_bfloat16: bool,
    ) -> None: ...
    def set_groups(self, groups: Sequence[Sequence[float]]) -> None: ...
    def set_lazy(self, lazy: bool) -> None: ...
    def step(self, x: Tensor | TrainInput, target: Tensor, max_norm: float | None) -> Tensor: ...
    def gradients(self, x: Tensor, target: Tensor, gradients: Tensor) -> tuple[float, float]: ...
    def apply(self, gradients: Tensor, grad_scale: float, max_norm: float | None) -> None: ...
    def gradient_count(self) -> int: ...
    def check(self, x: Tensor | TrainInput, target: Tensor, allow_bytes: bool) -> None: ...
    def run_epoch(
        self,
        x: Tensor | TrainInput,
        target: Tensor,
        order: Tensor | None,
        batch_size: int,
        drop_last: bool,
        scale: float,
        shift: float,
        max_norm: float | None,
    ) -> float: ...
    def fit_epoch(
        self,
        x: Tensor | TrainInput,
        target: Tensor,
        order: Tensor | None,
        row_weights: Tensor | None,
        batch_size: int,
        alpha: float,
        loss_factor: float,
        rate: float,
    ) -> tuple[float, float]: ...
