"""Words and numbers of a side-by-side training run."""

from __future__ import annotations

from training import History


def speed_up(reference: History, history: History) -> float:
    """How many times faster ``history`` was than ``reference``, over all epochs."""
    return reference.total_seconds / history.total_seconds


def loss_difference(reference: History, history: History) -> float:
    """Largest distance of the two loss curves, whose points are the mean losses of the epochs."""
    return (history.epoch_losses - reference.epoch_losses).abs().max().item()


def epoch_table(histories: dict[str, History]) -> str:
    """Return a table with a line for each epoch: loss, accuracy and seconds of all contenders."""
    head = f"{'loss':>10}{'accuracy':>10}{'seconds':>9}"
    lines = [
        "      " + "".join(f"{name:>{len(head) + 3}}" for name in histories),
        " epoch" + f"   {head}" * len(histories),
    ]
    for epoch in range(len(next(iter(histories.values())).losses)):
        cells = [
            f"   {h.epoch_losses[epoch]:10.6f}{h.accuracies[epoch]:10.2%}{h.seconds[epoch]:9.2f}"
            for h in histories.values()
        ]
        lines.append(f"{epoch + 1:6d}" + "".join(cells))
    return "\n".join(lines)


def summary(histories: dict[str, History]) -> str:
    """Return the result in a few lines; the first contender is what the others are compared with.

    Args:
        histories: what was measured, by name.

    Returns:
        Test accuracy and seconds of each; speed-up and loss difference of all but the first.
    """
    lines = [
        f"{name}: test accuracy {history.accuracies[-1]:.2%}, {history.total_seconds:.2f} s in the "
        "training loop"
        for name, history in histories.items()
    ]
    (reference_name, reference), *others = histories.items()
    for name, history in others:
        lines.append(
            f"{name} against {reference_name}: {speed_up(reference, history):.2f} times as fast, "
            f"largest difference of the loss curves {loss_difference(reference, history):.1e}"
        )
    return "\n".join(lines)


def headline(histories: dict[str, History]) -> str:
    """Return one line with the result of the last contender against the first."""
    (reference_name, reference), *_, (name, history) = histories.items()
    return (
        f"{name} trains {speed_up(reference, history):.2f} times as fast as {reference_name}: "
        f"test accuracy {history.accuracies[-1]:.2%} and {reference.accuracies[-1]:.2%}"
    )
