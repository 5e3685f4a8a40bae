"""pyfastnn, measured through the same code as stock PyTorch with its own layer and network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.providers.eager import Torch


class Pyfastnn(Torch):
    """``pyfastnn.functional.linear_relu`` and ``pyfastnn.MLP``."""

    def describe(self) -> dict[str, str]:
        """Version and the active ISA."""
        import pyfastnn

        return {"version": pyfastnn.__version__, "isa": pyfastnn.active_isa()}

    def layer(self) -> Callable[[Any, Any, Any], Any]:
        """The fused layer."""
        import pyfastnn.functional

        return pyfastnn.functional.linear_relu

    def network(self, sizes: Sequence[int], dtype: Any) -> Any:
        """The fused network."""
        import pyfastnn

        return pyfastnn.MLP(list(sizes), dtype=dtype)
