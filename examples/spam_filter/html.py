"""The text of an HTML page, for words that are compared and not shown; any input will do.

One pass without backtracking: the time is linear in the length, whatever a sender has written.
"""

from __future__ import annotations

import html
import re

TAG_NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)")
UNSEEN = {"script", "style"}
# Tags inside of words, as in "v<b>i</b>agra", do not end a word. All others do.
INLINE = {"a", "b", "big", "em", "font", "i", "s", "small", "span", "strong", "sub", "sup", "u"}
MARKS = {"a": "link", "img": "image", "form": "form", "script": "script", "font": "font"}


def read_html(source: str) -> tuple[str, tuple[str, ...]]:
    """Return what a reader sees, and marks: ``html`` once, ``link`` or ``image`` for each tag."""
    first, *pieces = source.split("<")
    kept, marks = [first], ["html"]
    in_comment, unseen = False, ""
    for piece in pieces:
        if in_comment or piece.startswith("!--"):
            _, end, text = piece.partition("-->")
            in_comment = not end
            if end and not unseen:
                kept.append(text)
            continue
        tag, end, text = piece.partition(">")
        name = TAG_NAME.match(tag)
        if unseen:
            if tag.lower().startswith("/" + unseen):
                unseen = ""
                kept.append(" " + text)
            continue
        if not end or (name is None and not tag.startswith(("!", "?", "/"))):
            kept.append("<" + piece)  # no tag: a sign of less-than
            continue
        kind = name[1].lower() if name else ""
        if kind in MARKS and not tag.startswith("/"):
            marks.append(MARKS[kind])
        if kind in UNSEEN and not tag.startswith("/"):
            unseen = kind
            continue
        kept.append(text if kind in INLINE else " " + text)
    return html.unescape("".join(kept)), tuple(marks)
