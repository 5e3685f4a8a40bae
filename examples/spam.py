"""Learns to tell spam from other e-mail, and says of a new e-mail what it is.

`train` (what happens without a word) fetches some thousand real e-mails, trains
`pyfastnn.sklearn.MLPClassifier` on words beside scikit-learn's MLPClassifier and
LogisticRegression, prints how they do on mails that they have not seen, and writes a picture and
the model. `predict` reads an e-mail from a file, or from standard input, and prints the answer and
its probability.

Examples:
    python examples/spam.py
    python examples/spam.py predict message.eml
    python examples/spam.py predict --why - < message.eml

Exit status of `train`: 0; 1 if there are no data or the accuracy is too low. Of `predict`: 0 for
not_spam, 1 for spam, 2 if there is no answer.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from archives import FetchError, WrongArchiveError, cache_folder
from options import positive
from sklearn import __version__ as sklearn_version
from spam_filter import model_file, race, report
from spam_filter.classifier import SpamFilter
from spam_filter.corpus import Corpus, deduplicate, load_corpus
from spam_filter.features import ordinary_words
from spam_filter.mail import MailText, read_mail
from spam_filter.picture import draw
from spam_filter.splits import splits
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import pyfastnn

OUT = Path(__file__).resolve().parent.parent / "out"
EPOCHS, QUICK_EPOCHS, QUICK_EVERY = 10, 5, 6
EMAIL_ACCURACY, SMS_ACCURACY = 0.98, 0.97
WORDS_SHOWN = 12  # of spam, and as many of other mail
SHARE_SHOWN = 0.02  # of the test mails, in which a word must occur to be shown
WORDS_OF_A_MAIL = 10
NOT_SPAM, SPAM, NO_ANSWER = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return train(options) if options.command == "train" else predict(options)


def train(options: argparse.Namespace) -> int:
    """Fetch, learn, compare, save; return the exit status."""
    torch.set_num_threads(options.threads)
    try:
        found = load_corpus(cache_folder(), QUICK_EVERY if options.quick else 1)
    except (FetchError, WrongArchiveError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    corpus = deduplicate(found)
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else EPOCHS)
    print(f"data: {describe(found, corpus)}")
    divisions = splits(corpus, options.seed)
    with (
        tqdm(total=3 * len(divisions), unit="fit", desc="training") as bar,
        threadpool_limits(options.threads),
    ):
        races = [race.run(corpus, each, epochs, options.seed, bar.update) for each in divisions]
    results = [result for each in races for result in each.results]
    model = SpamFilter.of(
        races[0].vectorizer,
        races[0].ours,
        f"{len(divisions[0].train):,} {corpus.name}",
    )
    sizes = "-".join(map(str, [len(model.vocabulary), *race.HIDDEN, 1]))
    circumstances = (
        f"{sizes} on {len(divisions[0].train):,} of {len(corpus):,} {corpus.name}, adam, batch "
        f"{race.BATCH_SIZE}, {epochs} epochs, threads: {options.threads}, {pyfastnn.active_isa()}, "
        f"torch {torch.__version__}, scikit-learn {sklearn_version}"
    )
    print(f"\n{circumstances}\n\n{report.table(results)}\n")
    test = [corpus.mails[index] for index in divisions[0].test]
    draw(
        options.output,
        title=f"{corpus.name}: {report.headline(results)}",
        subtitle=circumstances,
        results=results,
        words=telling_words(model, test),
    )
    print(f"picture: {options.output}")
    model_file.save(model, options.model)
    print(f"model: {options.model}")
    if options.quick:
        print("quick run: no claim about accuracy")
        return 0
    return check_accuracy(results, EMAIL_ACCURACY if corpus.is_full else SMS_ACCURACY)


def describe(found: Corpus, corpus: Corpus) -> str:
    """Return what was found and what was left of it."""
    spam = int(corpus.is_spam.sum())
    return (
        f"{len(found):,} {found.name}; {len(found) - len(corpus):,} repeat the text of another and "
        f"are left out: {spam:,} spam and {len(corpus) - spam:,} not_spam remain"
    )


def telling_words(model: SpamFilter, mails: list[MailText]) -> list[tuple[str, float]]:
    """Return the words that speak most for spam, then those that speak most against it."""
    ordinary = ordinary_words(mails)
    told = model.telling(mails, SHARE_SHOWN)
    shown = [(word, value) for word, value in told if word in ordinary or word.startswith("<")]
    spam = [pair for pair in shown if pair[1] > 0][:WORDS_SHOWN]
    return spam + [pair for pair in shown if pair[1] < 0][:WORDS_SHOWN][::-1]


def check_accuracy(results: list[race.Result], wanted: float) -> int:
    """Return 0 if pyfastnn's classifier is accurate enough on the random split, else 1."""
    ours = results[0]
    if ours.accuracy >= wanted:
        return 0
    print(
        f"ERROR: {ours.name}: expected an accuracy of at least {wanted:.0%} on the random split, "
        f"got {ours.accuracy:.2%}",
        file=sys.stderr,
    )
    return 1


def predict(options: argparse.Namespace) -> int:
    """Print what one e-mail is; return the exit status."""
    try:
        model = model_file.load(options.model)
        stdin = options.message == "-"
        raw = sys.stdin.buffer.read() if stdin else Path(options.message).read_bytes()
    except (model_file.ModelFileError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        if not options.model.exists():
            print(f"There is no model yet: python {sys.argv[0]} makes one", file=sys.stderr)
        return NO_ANSWER
    mail = read_mail(raw)
    if not (mail.subject + mail.body).strip():
        print("WARNING: there is no text in this e-mail", file=sys.stderr)
    probability = float(model.probabilities([mail])[0])
    if math.isnan(probability):
        print(f"ERROR: {options.model}: its numbers are too large to compute with", file=sys.stderr)
        return NO_ANSWER
    is_spam = probability > 0.5
    lines = [f"spam {probability:.3f}" if is_spam else f"not_spam {1 - probability:.3f}"]
    if options.why:
        told = model.telling([mail])[:WORDS_OF_A_MAIL]
        lines += [f"{value:+8.3f}  {word}" for word, value in told]
    sys.stdout.write("\n".join(lines) + "\n")  # at once: a reader may close the pipe after it
    return SPAM if is_spam else NOT_SPAM


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; without a command it is `train`."""
    summary, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    add = commands.add_parser("train", help="learn, compare, save (the default)").add_argument
    add("--epochs", type=positive, help=f"of the networks; default: {EPOCHS}")
    add("--threads", type=positive, default=1, help="of all; default: %(default)s")
    add("--seed", type=int, default=0, help="of split, weights and order; default: %(default)s")
    add(
        "--quick",
        action="store_true",
        help=f"smoke test: a mail of {QUICK_EVERY}, {QUICK_EPOCHS} epochs, any accuracy passes",
    )
    add("--output", type=Path, default=OUT / "spam.png", help="picture; default: out/spam.png")
    _add_model(add)
    add = commands.add_parser("predict", help="say what an e-mail is").add_argument
    add("message", help="file with headers and body, as .eml; - for standard input")
    add("--why", action="store_true", help="print its most telling words, + for spam")
    _add_model(add)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    return parser.parse_args(arguments)


def _add_model(add) -> None:  # type: ignore[no-untyped-def]
    default = OUT / "spam-filter"
    add("--model", type=Path, default=default, help="folder; default: out/spam-filter")


if __name__ == "__main__":
    sys.exit(main())
