"""Runs the code of docs/guide.md, and writes what it prints and draws into the page.

    python docs/run_guide.py           # rewrites the outputs in guide.md and its pictures
    python docs/run_guide.py --check   # changes nothing; 1 if an output has another form

Numbers differ a little from one instruction set to another, so that outputs are compared by their
words and lines, not by their numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files, needs no screen

from matplotlib import pyplot

DOCS = Path(__file__).resolve().parent
GUIDE = DOCS / "guide.md"
# A block of Python and, if it prints something, the block of text behind it.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]\d+)?%?|\bnan\b")


def main() -> int:
    """Run the page; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the code of docs/guide.md.")
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    check = parser.parse_args().check
    text = GUIDE.read_text()
    with tempfile.TemporaryDirectory() as scratch:
        new = run(text, Path(scratch) if check else DOCS)
    if not check:
        GUIDE.write_text(new)
        return 0
    differences = compare(text, new)
    print("\n".join(differences) or "docs/guide.md: the outputs have the form that the page shows")
    return 1 if differences else 0


def run(text: str, folder: Path) -> str:
    """Run the blocks of a page one after the other; return the page with what they print.

    Args:
        text: of the page.
        folder: where the blocks run, and leave their pictures.
    """
    names: dict[str, object] = {}

    def with_output(block: re.Match[str]) -> str:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], GUIDE.name, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        output = printed.getvalue()
        return f"```python\n{block[1]}```\n" + (f"\n```text\n{output}```\n" if output else "")

    examples = str(DOCS.parent / "examples")
    before = Path.cwd()
    sys.path.insert(0, examples)
    os.chdir(folder)
    try:
        return BLOCK.sub(with_output, text)
    finally:
        os.chdir(before)
        pyplot.close("all")
        sys.path.remove(examples)


def form(text: str) -> list[str]:
    """Return the lines of a page without its numbers and the width of its columns."""
    return [re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip() for line in text.splitlines()]


def compare(old: str, new: str) -> list[str]:
    """Return what differs between the forms of two pages, nothing if they agree."""
    return list(difflib.unified_diff(form(old), form(new), "shown", "printed", lineterm=""))


if __name__ == "__main__":
    sys.exit(main())
