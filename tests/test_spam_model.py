"""A spam filter that was saved is the same filter; a file that is not one is refused."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from spam_fakes import fitted
from spam_filter import model_file
from spam_filter.features import new_vectorizer, ordinary_words
from spam_filter.mail import MailText
from spam_filter.model_file import DESCRIPTION, TENSORS, ModelFileError

DATA, FILTER, ESTIMATOR = fitted()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_file.save(FILTER, tmp_path / "new" / "model")
    return tmp_path / "new" / "model"


def change(folder: Path, **entries: object) -> None:
    """Change entries of the description; None: remove."""
    path = folder / DESCRIPTION
    description = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


def replace_tensors(folder: Path, content: bytes) -> None:
    """Put other tensors in, with the right hash."""
    (folder / TENSORS).write_bytes(content)
    change(folder, tensors_sha256=model_file.hashlib.sha256(content).hexdigest())


def test_saved_filter_gives_the_same_bits(folder):
    loaded = model_file.load(folder)
    np.testing.assert_array_equal(
        loaded.probabilities(DATA.mails), FILTER.probabilities(DATA.mails)
    )
    assert loaded.trained_on == "made-up mails"
    assert loaded.telling(DATA.mails[:1]) == FILTER.telling(DATA.mails[:1])


def test_filter_gives_the_probabilities_of_the_estimator():
    rows = new_vectorizer().fit_transform(DATA.mails)
    np.testing.assert_allclose(
        FILTER.probabilities(DATA.mails), ESTIMATOR.predict_proba(rows)[:, 1], rtol=1e-5
    )


def test_telling_words_add_up_to_the_log_odds_where_the_network_is_linear():
    network = torch.nn.Linear(len(FILTER.vocabulary), 1, bias=False)
    linear = type(FILTER)(FILTER.vocabulary, FILTER.idf, network, "")
    (probability,) = linear.probabilities(DATA.mails[:1])
    told = linear.telling(DATA.mails[:1])
    total = sum(value for _, value in told)
    assert total == pytest.approx(np.log(probability / (1 - probability)), rel=1e-4)
    sizes = [abs(value) for _, value in told]
    assert sizes == sorted(sizes, reverse=True)


def test_telling_words_of_several_mails_are_means_over_those_that_have_them():
    mail, other = MailText("", "free"), MailText("", "merge")
    ((word, value),) = FILTER.telling([mail])
    assert word == "free" and value > 0.1
    assert dict(FILTER.telling([mail, other]))[word] == pytest.approx(value)
    ((word, value),) = FILTER.telling([mail, other, other], smallest_share=0.5)
    assert word == "merge" and value < -0.1
    assert FILTER.telling([MailText("", "unheard-of")]) == []


def test_names_are_no_ordinary_words():
    mails = [MailText("", "Anna said: click. Click HERE HERE HERE HERE HERE, Anna, here")]
    assert ordinary_words(mails) == {"said", "click", "here"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "other"}, "expected format 'pyfastnn spam filter', got 'other'"),
        ({"format": None}, "got None"),
        ({"version": 2}, "expected version 1, got 2"),
        ({"vocabulary": None}, r"missing \['vocabulary'\], unknown \[\]"),
        ({"code": "import os"}, r"missing \[\], unknown \['code'\]"),
        ({"sizes": "1"}, "expected sizes to be list, got str"),
        ({"sizes": []}, "two positive integers or more"),
        ({"sizes": [1.0, 1]}, "two positive integers or more"),
        ({"sizes": [True, 1]}, "two positive integers or more"),
        ({"sizes": [-1, 1]}, "two positive integers or more"),
        ({"sizes": [10, 8, 2]}, "expected the last of the sizes to be 1, got 2"),
        ({"sizes": [10, 8, 4, 1]}, "expected 10 words, as in sizes, got"),
        ({"vocabulary": ["a", "a"]}, "expected vocabulary to be different strings"),
        ({"vocabulary": ["a", 1]}, "expected vocabulary to be different strings"),
        ({"vocabulary": [["a"], "b"]}, "expected vocabulary to be different strings"),
        ({"tensors_sha256": "0" * 64}, "expected sha256 0000"),
        (
            {"sizes": [len(FILTER.vocabulary), 10**15, 4, 1]},
            r"to be torch.float32 \[.*10{15}.*\], got",
        ),
        ({"sizes": [len(FILTER.vocabulary), 8, 1]}, "expected tensors"),
    ],
)
def test_description_that_does_not_fit_is_refused(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(ModelFileError, match=message) as caught:
        model_file.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b'{"format": ', "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "expected an object, got list"),
        (pickle.dumps({"format": "pyfastnn spam filter"}), "is no JSON"),
    ],
    ids=["empty", "cut", "no text", "too deep", "list", "pickle"],
)
def test_description_that_is_no_json_object_is_refused(folder, content, message):
    (folder / DESCRIPTION).write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        model_file.load(folder)


@pytest.mark.parametrize("name", [DESCRIPTION, TENSORS])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=f"{name}: cannot be read: No such file"):
        model_file.load(folder)


@pytest.mark.parametrize("place", [0, 8, 500, -1])
def test_one_changed_byte_of_the_tensors_is_noticed(folder, place):
    data = bytearray((folder / TENSORS).read_bytes())
    data[place] ^= 1
    (folder / TENSORS).write_bytes(data)
    with pytest.raises(ModelFileError, match="expected sha256"):
        model_file.load(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, save({"idf": torch.ones(3)})[:-1], pickle.dumps({"idf": [1.0]})],
    ids=["empty", "noise", "cut", "pickle"],
)
def test_tensors_in_another_format_are_refused(folder, content):
    replace_tensors(folder, content)
    with pytest.raises(ModelFileError, match="is no safetensors file"):
        model_file.load(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("idf", None, "expected tensors"),
        ("extra", torch.zeros(1), "expected tensors"),
        ("0.bias", torch.zeros(9), r"0\.bias to be torch.float32 \[8\], got torch.float32 \[9\]"),
        ("0.bias", torch.zeros(8, 1), r"got torch.float32 \[8, 1\]"),
        ("0.bias", torch.zeros(8).double(), r"got torch.float64 \[8\]"),
        ("0.bias", torch.full([8], float("nan")), "0.bias has numbers that are not finite"),
        ("4.weight", torch.full([1, 4], float("inf")), "4.weight has numbers that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, name, tensor, message):
    tensors = load((folder / TENSORS).read_bytes()) | {name: tensor}
    replace_tensors(folder, save({k: v for k, v in tensors.items() if v is not None}))
    with pytest.raises(ModelFileError, match=message):
        model_file.load(folder)
