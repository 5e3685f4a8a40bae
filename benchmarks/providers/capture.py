"""Catch what C code prints, which Python's ``sys.stdout`` and ``sys.stderr`` never see."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def caught_output(descriptor: int) -> Iterator[list[str]]:
    """Take what is written to file `descriptor` meanwhile; the list holds it afterwards."""
    texts: list[str] = []
    saved = os.dup(descriptor)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield texts
        finally:
            os.dup2(saved, descriptor)
            os.close(saved)
            file.seek(0)
            texts.append(file.read().decode())
