"""docs/guide.md: its code runs, prints what the page shows and draws its pictures."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))

import digits
import run_guide
from archives import FetchError, cache_folder
from data_fakes import synthetic_digits

ROOT = Path(__file__).resolve().parents[1]
PAGE = run_guide.GUIDE.read_text()


def few_digits() -> digits.Digits:
    """Return MNIST's first images if its archive is at hand, else synthetic ones."""
    path = cache_folder() / digits.FULL.file_name
    if not path.exists():
        return synthetic_digits(learnable=True)
    full = digits.read_full(path)
    rows = slice(1000)
    return digits.Digits(
        full.train_images[rows],
        full.train_labels[rows],
        full.test_images[rows],
        full.test_labels[rows],
        is_full=True,
    )


@pytest.mark.parametrize("load", [few_digits, lambda: synthetic_digits(learnable=True)])
def test_the_code_prints_what_the_page_shows_and_draws_its_pictures(load, monkeypatch, tmp_path):
    data = load()
    monkeypatch.setattr(digits, "load_digits", lambda folder: data)
    before = Path.cwd()
    printed = run_guide.run(PAGE, tmp_path)
    assert run_guide.compare(PAGE, printed) == []
    assert Path.cwd() == before
    pictures = set(re.findall(r"!\[.*\]\((.*)\)", PAGE))
    assert {path.name for path in tmp_path.iterdir()} == pictures and len(pictures) == 3
    for name in pictures:
        assert (ROOT / "docs" / name).stat().st_size < 300_000


def test_the_page_has_code_and_an_output_for_most_of_it():
    blocks = run_guide.BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python") > 10
    assert sum(bool(output) for _, output in blocks) == PAGE.count("```text") > 8


def test_an_output_is_written_behind_its_block(tmp_path):
    page = "text\n```python\nx = 3\n```\n\n```python\nprint(x)\n```\n\n```text\nold\n```\nend\n"
    assert run_guide.run(page, tmp_path) == page.replace("old", "3")
    assert run_guide.run(page.replace("print(x)", "x"), tmp_path) == page.replace(
        "print(x)", "x"
    ).replace("\n```text\nold\n```\n", "")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("loss 2.30, 97.1% right", "loss 0.5, 8% right", True),
        ("a   1.0e-05  +3,000", "a -2 7", True),
        ("loss 2.30", "error 2.30", False),
        ("loss 2.30", "loss 2.30\nwarning", False),
        ("loss 2.30 0.1", "loss 2.30", False),
        ("dead -", "dead 5%", False),
    ],
)
def test_outputs_are_compared_without_their_numbers(shown, printed, same):
    assert (run_guide.compare(shown, printed) == []) == same


def test_a_page_that_shows_something_else_fails(monkeypatch, tmp_path, capsys):
    page = tmp_path / "guide.md"
    page.write_text("```python\nprint('new')\n```\n\n```text\nold\n```\n")
    monkeypatch.setattr(run_guide, "GUIDE", page)
    monkeypatch.setattr(sys, "argv", ["run_guide.py", "--check"])
    assert run_guide.main() == 1
    assert "-old\n+new" in capsys.readouterr().out and "old" in page.read_text()
    monkeypatch.setattr(sys, "argv", ["run_guide.py"])
    assert run_guide.main() == 0 and "new" in page.read_text()
    monkeypatch.setattr(sys, "argv", ["run_guide.py", "--check"])
    assert run_guide.main() == 0


def test_an_error_in_the_page_names_its_line(tmp_path):
    with pytest.raises(FetchError) as caught:
        run_guide.run(
            "\n\n```python\nfrom archives import FetchError\nraise FetchError\n```\n", tmp_path
        )
    assert caught.traceback[-1].lineno + 1 == 5
