"""From the text of an e-mail to a sparse row of tf-idf: a column for each word that is known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from spam_filter.mail import MailText

# Every repetition is bounded or cannot be retried, so that no text takes more than linear time.
TOKEN = re.compile(
    r"""(?P<link> (?:https?://|www\.) [^\s<>"']* )
      | (?P<address> [\w.+-]{1,64} @ [\w.-]+ )
      | (?P<money> [$\u00a3\u20ac] \s? \d [\d.,]* )
      | (?P<percent> \d [\d.,]* \s? % )
      | (?P<number> \d [\d.,:]* )
      | (?P<word> [^\W\d_]+ (?: ['-] [^\W\d_]+ )* )
      | (?P<exclamation> !+ )""",
    re.VERBOSE,
)
LONGEST_WORD = 30
SHORTEST_SHOUT = 4
MAX_FEATURES = 20_000
OFTEN = 0.2
MIN_MAILS = 2  # in which a word must occur


def tokens(mail: MailText) -> list[str]:
    """Return the words of subject and body in lower case, and marks such as ``<link>``.

    Links, addresses and numbers count as such: which ones they are would tell who wrote to whom.
    Words of the subject come twice, as ``subject:free`` and as ``free``.
    """
    subject = _tokens(mail.subject)
    marks = [f"<{mark}>" for mark in mail.marks]
    return [f"subject:{token}" for token in subject] + subject + _tokens(mail.body) + marks


def _tokens(text: str) -> list[str]:
    found = []
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind != "word":
            found.append(f"<{kind}>")
        elif len(token) > LONGEST_WORD:
            found.append("<long word>")
        else:
            if len(token) >= SHORTEST_SHOUT and token.isupper():
                found.append("<capitals>")
            found.append(token.lower())
    return found


def new_vectorizer() -> TfidfVectorizer:
    """Return a vectorizer of mails that has not been fitted."""
    return TfidfVectorizer(
        analyzer=tokens,
        max_features=MAX_FEATURES,
        min_df=MIN_MAILS,
        sublinear_tf=True,
        dtype=np.float32,
    )


def restored_vectorizer(vocabulary: Sequence[str], idf: npt.NDArray[np.float32]) -> TfidfVectorizer:
    """Return the vectorizer that has these words in its columns, with these weights."""
    columns = {word: column for column, word in enumerate(vocabulary)}
    vectorizer = new_vectorizer().set_params(vocabulary=columns)
    vectorizer.idf_ = idf
    return vectorizer


def ordinary_words(mails: Iterable[MailText]) -> set[str]:
    """Return the words that are no names: often in lower case where they are not all capitals."""
    spellings = Counter(
        match[0]
        for mail in mails
        for match in TOKEN.finditer(mail.body)
        if match.lastgroup == "word" and not match[0].isupper()
    )
    total: Counter[str] = Counter()
    for spelling, count in spellings.items():
        total[spelling.lower()] += count
    return {word for word, count in total.items() if spellings[word] >= OFTEN * count}
