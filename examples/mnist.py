"""Trains a 784-128-64-10 network on MNIST with stock PyTorch and with pyfastnn, side by side.

Three ways: stock PyTorch; `pyfastnn.MLP` in the same loop with ordinary autograd; and
`pyfastnn.TrainStep`, a call for each epoch. All start from the same weights, meet the same batches
in the same order, and use the same loss and the same torch optimizer. Prints losses, accuracy,
seconds, speed-up and the largest difference of the loss curves, and writes one picture. Exits with
1 if an accuracy is too low.

Example:
    python examples/mnist.py --threads 2 --optimizer adam
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from archives import FetchError, WrongArchiveError, cache_folder
from digits import Digits, load_digits
from options import positive
from picture import draw
from report import epoch_table, headline, summary
from torch import nn
from tqdm import tqdm
from training import (
    Contender,
    History,
    fused_epochs,
    ordinary_loop,
    predict,
    train_side_by_side,
)

import pyfastnn

SIZES = [784, 128, 64, 10]
LAST_HIDDEN = "relu(2)"  # what explain_backward calls the ReLU behind the second layer, model[2]
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "out" / "mnist.png"
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
}
FULL_EPOCHS, FULL_ACCURACY = 12, 0.97
# 4,000 training images instead of 60,000: more epochs help, but not as far as 97 %.
SUBSET_EPOCHS, SUBSET_ACCURACY = 60, 0.90
QUICK_EPOCHS, QUICK_BATCHES = 3, 100


def main() -> int:
    """Train, report, draw; return the exit status."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    try:
        digits = load_digits(cache_folder())
    except (FetchError, WrongArchiveError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    if options.quick:
        rows = QUICK_BATCHES * options.batch_size
        digits = replace(
            digits,
            train_images=digits.train_images[:rows],
            train_labels=digits.train_labels[:rows],
        )
    contenders = make_contenders(options.seed, options.optimizer)
    histories = train(contenders, digits, options)
    by_name = {c.name: h for c, h in zip(contenders, histories, strict=True)}
    circumstances = (
        f"{'-'.join(map(str, SIZES))} on {digits.name} ({len(digits.train_labels):,} training "
        f"images), batch {options.batch_size}, {options.optimizer}, "
        f"threads: {torch.get_num_threads()}, {pyfastnn.active_isa()}, torch {torch.__version__}"
    )
    print(f"\n{circumstances}\n\n{epoch_table(by_name)}\n\n{summary(by_name)}")
    model = contenders[-1].model
    draw(
        options.output,
        title=headline(by_name),
        subtitle=circumstances,
        histories=by_name,
        weight=next(model.parameters()),
        responses=pyfastnn.layer_outputs(model, digits.test_images)[LAST_HIDDEN],
        images=digits.test_images,
        labels=digits.test_labels,
        predictions=predict(model, digits.test_images),
    )
    print(f"picture: {options.output}")
    if options.quick:
        print("quick run: no claim about accuracy")
        return 0
    return check_accuracy(by_name, digits)


def make_contenders(seed: int, optimizer_name: str) -> list[Contender]:
    """Return stock PyTorch, which the others are compared with, and pyfastnn's two ways."""
    torch.manual_seed(seed)
    k, n1, n2, classes = SIZES
    stock = nn.Sequential(
        nn.Linear(k, n1), nn.ReLU(), nn.Linear(n1, n2), nn.ReLU(), nn.Linear(n2, classes)
    )
    ways = {
        "stock PyTorch": ordinary_loop,
        "pyfastnn MLP": ordinary_loop,
        "pyfastnn TrainStep": fused_epochs,
    }
    contenders = []
    for name, way in ways.items():
        model = stock if name == "stock PyTorch" else pyfastnn.MLP(SIZES)
        model.load_state_dict(stock.state_dict())
        optimizer = OPTIMIZERS[optimizer_name](model.parameters())
        contenders.append(Contender(name, model, way(model, nn.CrossEntropyLoss(), optimizer)))
    return contenders


def train(
    contenders: list[Contender], digits: Digits, options: argparse.Namespace
) -> list[History]:
    """Train all contenders as the options say, with a progress bar."""
    usual = FULL_EPOCHS if digits.is_full else SUBSET_EPOCHS
    epochs = options.epochs or (QUICK_EPOCHS if options.quick else usual)
    with tqdm(total=epochs * len(contenders), unit="epoch", desc="training") as bar:
        return train_side_by_side(
            contenders,
            (digits.train_images, digits.train_labels),
            (digits.test_images, digits.test_labels),
            epochs=epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            on_epoch=bar.update,
        )


def check_accuracy(histories: dict[str, History], digits: Digits) -> int:
    """Return 0 if every contender is accurate enough for the data it had, else 1."""
    wanted = FULL_ACCURACY if digits.is_full else SUBSET_ACCURACY
    status = 0
    for name, history in histories.items():
        if history.accuracies[-1] < wanted:
            print(
                f"ERROR: {name}: expected a test accuracy of at least {wanted:.0%} on "
                f"{digits.name}, got {history.accuracies[-1]:.2%}",
                file=sys.stderr,
            )
            status = 1
    return status


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train on MNIST with stock PyTorch and with pyfastnn, side by side."
    )
    add = parser.add_argument
    add(
        "--epochs",
        type=positive,
        help=f"default: {FULL_EPOCHS}, with the 5,000-image subset {SUBSET_EPOCHS}",
    )
    add("--batch-size", type=positive, default=64, help="default: %(default)s")
    add("--threads", type=positive, default=1, help="of both contenders; default: %(default)s")
    add("--seed", type=int, default=0, help="of weights and batch order; default: %(default)s")
    add("--optimizer", choices=sorted(OPTIMIZERS), default="sgd", help="default: %(default)s")
    add(
        "--quick",
        action="store_true",
        help=f"smoke test: {QUICK_EPOCHS} epochs of {QUICK_BATCHES} batches, any accuracy passes",
    )
    add(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="picture to write; default: out/mnist.png",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
