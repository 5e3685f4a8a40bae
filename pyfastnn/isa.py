"""Which instruction set the CPU kernels use, and how to choose another one."""

from types import TracebackType

from pyfastnn import _C


def available_isas() -> list[str]:
    """Name the instruction sets that this processor can run, slowest first.

    Returns:
        A subset of ``["baseline", "avx2", "avx512", "avx512_bf16"]``.
    """
    return _C.available_isas()


def active_isa() -> str:
    """Name the instruction set in use.

    Returns:
        What ``force_isa`` or the environment variable ``PYFASTNN_ISA`` named, else the last entry
        of :func:`available_isas`.
    """
    return _C.active_isa()


class force_isa:
    """Run all kernels on one instruction set, from now on or inside a with-block.

    The choice holds for the whole process, every thread included.

    Args:
        name: one of :func:`available_isas`.

    Raises:
        ValueError: if the name is unknown or this processor cannot run it.

    Example:
        >>> force_isa("avx2")  # until changed again
        >>> with force_isa("baseline"):  # restored at the end of the block
        ...     y = model(x)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._previous = _C.active_isa()
        _C.set_isa(name)

    def __enter__(self) -> "force_isa":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _C.set_isa(self._previous)

    def __repr__(self) -> str:
        return f"force_isa({self.name!r})"
