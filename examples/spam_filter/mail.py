"""From the bytes of an e-mail, which may be damaged or hostile, to the words a reader would see.

Of the headers only the subject is read. The others say more about how a corpus was collected (which
mailing list, which mailbox) than about what spam is. So do the tag that a mailing list puts into
the subject, the footer that it adds to the text, and the lines that a sender of news puts before
it.
"""

from __future__ import annotations

import codecs
import email
import email.errors
import email.header
import email.message
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.policy import Compat32

from spam_filter.html import read_html

# Python's own inventions, no charsets of e-mails; the first two take time quadratic in the length.
NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
LIST_TAG = re.compile(r"\[[^\[\]]{1,40}\]")
# From a line of underscores, or the start of a signature, to the address of the list's page; before
# it perhaps an advertisement of its host. Quoted or not.
LIST_FOOTER = re.compile(
    r"""^ (?: [> ]* -{20,} \s*\n (?:.*\n){1,6}? )?
        [> ]* (?: _{20,} | -- ) [ ]*\r?\n (?:.*\n){0,3}? .*/listinfo/.*""",
    re.MULTILINE | re.VERBOSE,
)
# What a program that sends news by e-mail writes before its text; the corpus has much from one.
NEWS_HEADER = re.compile(r"\A\s*URL:.*\n\s*Date:.*\n")
LONGEST_HEADER = 2000  # parsing takes time quadratic in the length


@dataclass(frozen=True)
class MailText:
    """What a reader sees of an e-mail.

    Attributes:
        subject: decoded subject without tags of mailing lists.
        body: text of all parts, that of HTML without its tags.
        marks: what is there besides text: ``html``, ``link``, ``attachment``, ... as often as it
            occurs.
    """

    subject: str
    body: str
    marks: tuple[str, ...] = ()


class ShortHeaders(Compat32):
    """Cuts long headers. The newer policies parse them all, and raise on many that are damaged."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Return name and value of a header."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[:LONGEST_HEADER]


def read_mail(raw: bytes) -> MailText:
    """Return the text of an e-mail. Never raises: what cannot be parsed is read as plain text.

    Args:
        raw: headers, an empty line, body, as in an ``.eml`` file.
    """
    try:
        message = email.message_from_bytes(raw, policy=ShortHeaders())
        subject = _subject(message)
        pieces = list(_pieces(message))
    except Exception:  # the email package raises whatever comes to it on damaged mail
        body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        subject, pieces = "", [(decode(body or raw, None), ("damaged",))]
    text = "\n".join(text for text, _ in pieces)
    marks = tuple(mark for _, found in pieces for mark in found)
    text = LIST_FOOTER.sub("\n", NEWS_HEADER.sub("", text))
    return MailText(LIST_TAG.sub(" ", subject), text, marks)


def decode(data: bytes, charset: str | None) -> str:
    """Return text in the charset that is claimed, or in one that fits if the claim is a lie."""
    for name in (charset, "utf-8"):
        try:
            if name and codecs.lookup(name).name not in NO_CHARSETS:
                return data.decode(name)
        except (LookupError, ValueError):  # no such charset; these bytes are no text in it
            continue
    return data.decode("latin-1")  # takes every byte


def _subject(message: email.message.Message) -> str:
    header = message.get("Subject") or ""
    try:
        parts = email.header.decode_header(header)
    except email.errors.HeaderParseError:
        return str(header)
    return "".join(
        part if isinstance(part, str) else decode(part, charset) for part, charset in parts
    )


def _pieces(message: email.message.Message) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield text and marks of each part."""
    for part in message.walk():
        if part.is_multipart():
            continue
        if part.get_content_maintype() != "text" or part.get_content_disposition() == "attachment":
            yield "", ("attachment",)
            continue
        payload = part.get_payload(decode=True)
        text = decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())
        is_html = part.get_content_subtype() == "html" or "<html" in text[:2000].lower()
        yield read_html(text) if is_html else (text, ())
