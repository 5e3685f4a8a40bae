"""The demo: a fair race, honest numbers, a picture, and an exit status that means something."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import mnist
import picture
from archives import FetchError
from data_fakes import synthetic_digits
from digits import Digits
from report import epoch_table, headline, loss_difference, speed_up, summary
from training import Contender, History, ordinary_loop, train_side_by_side


def history(seconds: list[float], losses: list[float]) -> History:
    return History([torch.tensor([loss]) for loss in losses], seconds, [0.5] * len(losses))


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    def run(data: Digits, *options: str) -> int:
        monkeypatch.setattr(mnist, "load_digits", lambda folder: data)
        output = str(tmp_path / "folder" / "run.png")
        monkeypatch.setattr(
            sys, "argv", ["mnist.py", "--threads", "1", "--output", output, *options]
        )
        return mnist.main()

    return run


def test_contenders_meet_the_same_batches_in_turn() -> None:
    seen: dict[str, list[Tensor]] = {"a": [], "b": []}
    turns: list[str] = []

    def recorder(name: str) -> Callable[..., Tensor]:
        def run_epoch(
            images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator
        ) -> Tensor:
            assert batch_size == 4
            turns.append(name)
            seen[name].append(torch.randperm(len(images), generator=generator))
            return torch.zeros(3)

        return run_epoch

    data = (torch.zeros(100, 2), torch.zeros(100, dtype=torch.int64))
    contenders = [Contender(name, nn.Linear(2, 3), recorder(name)) for name in seen]
    train_side_by_side(
        contenders, data, data, epochs=3, batch_size=4, seed=5, on_epoch=lambda: None
    )
    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert all(torch.equal(a, b) for a, b in zip(seen["a"], seen["b"], strict=True))
    assert not torch.equal(seen["a"][0], seen["a"][1])


def test_ordinary_loop_takes_each_row_once_and_updates_after_each_batch() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    images = torch.arange(1.0, 6.0).unsqueeze(1)  # [5, 1]

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        assert torch.equal(target, batches.pop(0) + 1)
        return output.sum()  # its gradient is the sum of the rows of the batch

    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    batches = list(order.split(2))
    run_epoch = ordinary_loop(model, loss_fn, torch.optim.SGD(model.parameters(), lr=1.0))
    losses = run_epoch(images, torch.arange(1, 6), 2, torch.Generator().manual_seed(1))
    assert batches == []
    assert losses.shape == (3,)
    assert not losses.requires_grad
    assert model.weight.item() == -15.0


def test_contenders_start_from_the_same_weights_of_the_seed() -> None:
    stock, fused, stepped = (c.model for c in mnist.make_contenders(7, "sgd"))
    other = mnist.make_contenders(8, "sgd")[0].model
    for a, b, c in zip(*(m.parameters() for m in (stock, fused, stepped)), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
    assert not torch.equal(next(stock.parameters()), next(other.parameters()))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_demo_trains_both_and_draws(
    run_demo: Callable[..., int],
    optimizer: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = synthetic_digits(learnable=True)
    assert run_demo(data, "--epochs", "6", "--batch-size", "20", "--optimizer", optimizer) == 0
    output = capsys.readouterr().out
    assert "stock PyTorch: test accuracy 100.00%" in output
    assert "pyfastnn MLP: test accuracy 100.00%" in output
    assert "pyfastnn TrainStep: test accuracy 100.00%" in output
    assert f"batch 20, {optimizer}, threads: 1," in output
    assert (tmp_path / "folder" / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("is_full", "bar"), [(True, "97%"), (False, "90%")])
def test_low_accuracy_fails(
    run_demo: Callable[..., int], is_full: bool, bar: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = synthetic_digits(learnable=False, is_full=is_full)
    assert run_demo(data, "--epochs", "1") == 1
    errors = capsys.readouterr().err
    for name in ("stock PyTorch", "pyfastnn MLP", "pyfastnn TrainStep"):
        assert f"ERROR: {name}: expected a test accuracy of at least {bar} on {data.name}" in errors


def test_quick_run_is_short_and_claims_no_accuracy(
    run_demo: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(synthetic_digits(learnable=False), "--quick", "--batch-size", "2") == 0
    output = capsys.readouterr().out
    assert "(200 training images)" in output
    assert "no claim about accuracy" in output


def test_missing_data_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> Digits:
        raise FetchError("no data")

    monkeypatch.setattr(mnist, "load_digits", fail)
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    assert mnist.main() == 1
    assert capsys.readouterr().err == "ERROR: no data\n"


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--threads"])
def test_counts_must_be_positive(
    monkeypatch: pytest.MonkeyPatch, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist.py", option, "0"])
    with pytest.raises(SystemExit):
        mnist.main()
    assert "expected a positive integer, got 0" in capsys.readouterr().err


def test_report_compares_with_the_first_contender() -> None:
    stock = history([3.0, 3.0], [0.5, 0.25])
    fused = history([1.0, 2.0], [0.5, 0.375])
    histories = {"stock": stock, "fused": fused}
    assert speed_up(stock, fused) == 2.0
    assert loss_difference(stock, fused) == 0.125
    assert "fused against stock: 2.00 times as fast" in summary(histories)
    assert "curves 1.2e-01" in summary(histories)
    assert headline(histories).startswith("fused trains 2.00 times as fast as stock")
    assert [line.split() for line in epoch_table(histories).splitlines()[2:]] == [
        ["1", "0.500000", "50.00%", "3.00", "0.500000", "50.00%", "1.00"],
        ["2", "0.250000", "50.00%", "3.00", "0.375000", "50.00%", "2.00"],
    ]


@pytest.mark.parametrize("mistakes", [0, 1, 100])
def test_picture_of_three_ways_needs_no_mistakes_and_no_differences(
    tmp_path: Path, mistakes: int
) -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    predictions = (torch.arange(100) < mistakes).to(torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture.draw(
            tmp_path / "run.png",
            title="title",
            subtitle="subtitle",
            histories={name: history([1.0, 1.0], [0.5, 0.25]) for name in "abc"},
            weight=torch.randn(30, 784),
            responses=torch.randn(100, 12),
            images=torch.rand(100, 784),
            labels=labels,
            predictions=predictions,
        )
    assert (tmp_path / "run.png").stat().st_size > 10_000
