"""Keeps a filter in a folder: `model.json` (words, sizes) and `model.safetensors` (numbers).

Neither can hold code. A file that is damaged, of another kind or of another version is refused
before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import pyfastnn
from spam_filter.classifier import SpamFilter

FORMAT = "pyfastnn spam filter"
VERSION = 1  # to be raised with every change of the tokens or of the tf-idf, too
DESCRIPTION, TENSORS = "model.json", "model.safetensors"
TYPES = {
    "format": str,
    "version": int,
    "trained_on": str,
    "sizes": list,
    "vocabulary": list,
    "tensors_sha256": str,
}


class ModelFileError(ValueError):
    """A model cannot be loaded; the message names the file and says what is wrong with it."""


def save(model: SpamFilter, folder: Path) -> None:
    """Write a filter into ``folder``, which is created if missing."""
    state = model.network.state_dict()
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    tensors = save_tensors({"idf": model.idf, **state})
    description = {
        "format": FORMAT,
        "version": VERSION,
        "trained_on": model.trained_on,
        "sizes": [weights[0].shape[1], *(len(weight) for weight in weights)],
        "vocabulary": model.vocabulary,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSORS).write_bytes(tensors)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")


def load(folder: Path) -> SpamFilter:
    """Read the filter in ``folder``.

    Raises:
        ModelFileError: if a file is missing, damaged, of another kind or version, or if the parts
            do not fit together.
    """
    path = folder / DESCRIPTION
    description = _parse(path)
    _check_description(description, path)
    sizes = description["sizes"]
    tensors = _read_tensors(folder / TENSORS, description["tensors_sha256"])
    _check_tensors(tensors, _expected_shapes(sizes), folder / TENSORS)
    idf = tensors.pop("idf")
    network = pyfastnn.MLP(sizes)
    network.load_state_dict(tensors)
    return SpamFilter(description["vocabulary"], idf, network, description["trained_on"])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(path: Path) -> dict[str, Any]:
    data = _read(path)
    try:
        description = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: is no JSON: {error}") from error
    if not isinstance(description, dict):
        raise ModelFileError(f"{path}: expected an object, got {type(description).__name__}")
    return description


def _check_description(description: dict[str, Any], path: Path) -> None:
    kind, version = description.get("format"), description.get("version")
    if kind != FORMAT:
        raise ModelFileError(f"{path}: expected format {FORMAT!r}, got {kind!r:.80}")
    if version != VERSION:
        raise ModelFileError(f"{path}: expected version {VERSION}, got {version!r:.80}")
    if description.keys() != TYPES.keys():
        missing, unknown = TYPES.keys() - description.keys(), description.keys() - TYPES.keys()
        raise ModelFileError(f"{path}: missing {sorted(missing)}, unknown {sorted(unknown)}")
    for key, wanted in TYPES.items():
        if type(description[key]) is not wanted:
            found = type(description[key]).__name__
            raise ModelFileError(f"{path}: expected {key} to be {wanted.__name__}, got {found}")
    words, sizes = description["vocabulary"], description["sizes"]
    if not all(type(size) is int and size > 0 for size in sizes) or len(sizes) < 2:
        raise ModelFileError(f"{path}: expected sizes to be two positive integers or more")
    if sizes[-1] != 1:
        raise ModelFileError(f"{path}: expected the last of the sizes to be 1, got {sizes[-1]}")
    if not all(type(word) is str for word in words) or len(set(words)) < len(words):
        raise ModelFileError(f"{path}: expected vocabulary to be different strings")
    if len(words) != sizes[0]:
        raise ModelFileError(f"{path}: expected {sizes[0]} words, as in sizes, got {len(words)}")


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelFileError(f"{path}: expected sha256 {sha256:.80}, found {found}")
    try:
        return load_tensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path}: is no safetensors file: {error}") from error


def _expected_shapes(sizes: list[int]) -> dict[str, list[int]]:
    """Return the shapes of the tensors by name; the ReLUs of a network have odd numbers."""
    shapes = {"idf": [sizes[0]]}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"{2 * layer}.weight"] = [outputs, inputs]
        shapes[f"{2 * layer}.bias"] = [outputs]
    return shapes


def _check_tensors(tensors: dict[str, Tensor], shapes: dict[str, list[int]], path: Path) -> None:
    if tensors.keys() != shapes.keys():
        raise ModelFileError(
            f"{path}: expected tensors {sorted(shapes)!s:.200}, got {sorted(tensors)!s:.200}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or list(tensor.shape) != shapes[name]:
            raise ModelFileError(
                f"{path}: expected {name} to be torch.float32 {shapes[name]}, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
        if not bool(tensor.isfinite().all()):
            raise ModelFileError(f"{path}: {name} has numbers that are not finite")
