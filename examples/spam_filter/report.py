"""Words and numbers of a run."""

from __future__ import annotations

from spam_filter.race import OURS, THEIRS, Result


def table(results: list[Result]) -> str:
    """Return a line for each classifier and split."""
    head = f"{'accuracy':>10}{'spam recall':>13}{'ham false positives':>24}{'fit':>10}"
    lines = [f"{'split':<18}{'classifier':<33}{head}"]
    for result in results:
        share = result.false_positives / result.ham
        wrong = f"{result.false_positives} of {result.ham:,} ({share:.2%})"
        lines.append(
            f"{result.split:<18}{result.name:<33}{result.accuracy:>10.2%}{result.recall:>13.2%}"
            f"{wrong:>24}{result.seconds:>8.2f} s"
        )
    return "\n".join(lines)


def find(results: list[Result], name: str, split: str) -> Result:
    """Return the result of one classifier on one split."""
    (found,) = (r for r in results if r.name == name and r.split == split)
    return found


def headline(results: list[Result]) -> str:
    """Return one line with the result on the first split."""
    split = results[0].split
    ours, theirs = find(results, OURS, split), find(results, THEIRS, split)
    return (
        f"{ours.accuracy:.2%} of the mails, {ours.recall:.2%} of the spam; fit "
        f"{theirs.seconds / ours.seconds:.1f} times as fast as scikit-learn's MLPClassifier"
    )
