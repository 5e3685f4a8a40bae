"""The e-mail example reads what a reader would see, of any bytes whatever."""

import base64
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from spam_fakes import eml, multipart
from spam_filter.features import tokens
from spam_filter.html import read_html
from spam_filter.mail import MailText, read_mail


def test_of_the_headers_only_the_subject_is_read():
    mail = read_mail(eml("some text", "a subject", "From: giveaway@example.org"))
    assert mail == MailText("a subject", "some text")


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        ("=?utf-8?q?gr=C3=BC=C3=9Fe?= dich", "grüße dich"),
        ("=?no-such-charset?q?gr=C3=BC?=", "grü"),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("[list-tag] Re: [other] news", "  Re:   news"),
        ("bytes \xfc beyond ASCII", "bytes ü beyond ASCII"),
    ],
    ids=["encoded", "unknown charset", "broken", "list tag", "raw bytes"],
)
def test_subject_is_decoded(header, subject):
    mail = read_mail(b"Subject: " + header.encode("latin-1") + b"\n\nbody")
    assert (mail.subject, mail.body) == (subject, "body")


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "us-ascii", "no-such", "a\0b", "base64", "idna", "undefined", "utf-16", '"', "=", ""],
)
def test_a_lie_about_the_charset_does_no_harm(charset):
    raw = eml("caf\xe9 olé.".encode("latin-1"), "", f"Content-Type: text/plain; charset={charset}")
    assert read_mail(raw).body == "café olé."


def test_the_charset_that_is_claimed_is_used_if_it_can_be():
    raw = eml("привет".encode("koi8-r"), "", "Content-Type: text/plain; charset=koi8-r")
    assert read_mail(raw).body == "привет"


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "punycode", "idna"])
def test_encodings_of_python_are_no_charsets(charset):
    raw = eml(r"caf\u0065-xyz", "", f"Content-Type: text/plain; charset={charset}")
    assert read_mail(raw).body == r"caf\u0065-xyz"


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit", "no-such"])
def test_transfer_encodings_are_undone(encoding):
    body = {"base64": base64.b64encode(b"plain text"), "quoted-printable": b"plain=20text"}
    raw = eml(body.get(encoding, b"plain text"), "", f"Content-Transfer-Encoding: {encoding}")
    assert read_mail(raw).body == "plain text"


def test_all_text_parts_are_read_and_no_attachment():
    mail = read_mail(
        multipart(
            b"Content-Type: text/plain\n\nfirst",
            b"Content-Type: text/html\n\n<p>second</p>",
            b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\nsecret",
            b"Content-Type: text/plain\nContent-Disposition: attachment\n\nsecret",
            b"Content-Type: message/rfc822\n\nSubject: inner\n\nforwarded",
        )
    )
    assert mail.body.split() == ["first", "second", "forwarded"]
    assert sorted(mail.marks) == ["attachment", "attachment", "html"]


def test_footers_of_lists_and_headers_of_news_are_left_out():
    line = "_" * 47
    body = f"URL: x\nDate: y\n\ntext\n> --\n> A club\n> http://x/listinfo/y\nmore\n{line}\nname\n"
    assert read_mail(eml(body + "a@b\nhttps://z/listinfo/name\n")).body.split() == ["text", "more"]


@pytest.mark.parametrize(
    ("source", "text", "marks"),
    [
        ("<p>one</p><p>two</p>", "one two", []),
        ("v<b>i</b>ag<!-- > hidden --><FONT size=1>ra</FONT>", "viagra", ["font"]),
        ("a<script>x < y > z</script>b<STYLE>p {}</STYLE>c", "a b c", ["script"]),
        ("<a href=x>here</a><img src=y>", "here", ["link", "image"]),
        ("a<script>b<!-- c -->d</script>e", "a e", ["script"]),
        ("1 < 2 &amp; 3 &gt; 2 &#33;", "1 < 2 & 3 > 2 !", []),
        ("open <a href='x", "open <a href='x", []),
        ("open <!-- comment", "open", []),
        ("open <script> x", "open", ["script"]),
        ("<![endif]><!DOCTYPE html><?php x ?>text", "text", []),
        ("", "", []),
    ],
)
def test_html_becomes_what_a_reader_sees(source, text, marks):
    found, found_marks = read_html(source)
    assert (found.split(), list(found_marks)) == (text.split(), ["html", *marks])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\0" * 100,
        b"\xff\xfe\xfd",
        b"no header and no empty line",
        b"Subject: headers only",
        b"Content-Type: multipart/mixed\n\nno boundary",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x--\n",
        b"Content-Type: ;;;=\nContent-Disposition: \xff\n\nbody",
        b"Content-Type: text/html; charset*0*=x'y'%ff; charset=\xff\n\n<",
        b"Content-Transfer-Encoding: base64\n\n!!!=",
        b"Content-Type: message/rfc822\n\n",
    ],
)
def test_no_mail_is_too_damaged(raw):
    assert all(isinstance(token, str) for token in tokens(read_mail(raw)))


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: message/rfc822\n\n" * 3000 + b"hello",
        b"".join(
            b"Content-Type: multipart/x; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(2000)
        )
        + b"\nhello",
    ],
    ids=["mails in mails", "parts in parts"],
)
def test_mail_too_deep_for_the_parser_is_read_as_text(raw):
    mail = read_mail(raw)
    assert mail.marks == ("damaged",) and mail.body.endswith("hello")


def test_random_damage_does_no_harm():
    whole = multipart(
        b"Content-Type: text/html; charset=utf-8\n\n<p>Some <b>text</b> &amp; <a href=x>y</a>",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8gd29ybGQ=",
    )
    chance = random.Random(0)
    for _ in range(1000):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 20)):
            place = chance.randrange(len(raw))
            raw[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        tokens(read_mail(bytes(raw)))


HEADERS = [("Content-Type: text/plain", ";"), ("Subject: ", "=?a?q?x")]
HTML = [("Content-Type: text/html\n\n", unit) for unit in ("<", "<!--", "<script>", "&#")]
TEXT_UNITS = ("a", "a.", "a-", "[", "_", "--\n", "-" * 20 + "\n", "> ", "1.")


@pytest.mark.parametrize(
    ("start", "unit", "size"),
    [(start, unit, 1_000_000) for start, unit in HEADERS]
    + [(start, unit, 300_000) for start, unit in HTML + [("\n", unit) for unit in TEXT_UNITS]],
)
def test_time_is_linear_whatever_the_sender_wrote(start, unit, size):
    raw = (start + unit * (size // len(unit))).encode()
    begin = time.process_time()
    tokens(read_mail(raw))
    assert time.process_time() - begin < 10  # quadratic time would be more


def test_tokens_keep_words_and_hide_who_and_where():
    mail = MailText("FREE gift", "Don't pay $1,000 at http://x.example; ask me@x.example: 50% !!")
    subject = ["<capitals>", "free", "gift"]
    body = "don't pay <money> at <link> ask <address> <percent> <exclamation>".split()
    assert tokens(mail) == [f"subject:{token}" for token in subject] + subject + body
    assert tokens(MailText("", "x" * 31, ("html",))) == ["<long word>", "<html>"]
