"""pyfastnn.plot and BackwardTrace.plot: the data in the pictures, and files of them."""

import math
import sys
import warnings
from collections.abc import Iterator

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

from explained import by_hand, network, total, trace_of
from matplotlib import pyplot
from matplotlib.axes import Axes

from pyfastnn import explain_backward, plot
from pyfastnn.plot._ranking import precision_recall_points, rank, roc_points


@pytest.fixture(autouse=True)
def no_warning_and_no_figure_left() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    pyplot.close("all")


def saved(axes: Axes, path) -> bool:
    axes.figure.savefig(path)
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 2000


def picture(axes: Axes) -> torch.Tensor:
    return torch.tensor(axes.images[0].get_array().filled(math.nan))


def test_first_layer_draws_each_unit_as_an_image_the_strongest_first(tmp_path):
    weight = torch.arange(1.0, 31).reshape(5, 6).requires_grad_()
    axes = plot.first_layer(weight, (2, 3), columns=2)
    drawn = picture(axes)
    assert drawn.shape == (3 * 3, 2 * 4)
    for place, unit in enumerate([4, 3, 2, 1, 0]):
        top, left = 3 * (place // 2), 4 * (place % 2)
        assert torch.equal(drawn[top : top + 2, left : left + 3], weight[unit].view(2, 3))
    assert drawn[6:, 4:].isnan().all() and drawn[:, 3].isnan().all()
    low, high = axes.images[0].get_clim()
    assert low == -high
    assert saved(axes, tmp_path / "weights.png")


def test_top_inputs_draws_the_strongest_inputs_of_each_unit(tmp_path):
    values = torch.tensor([[0.0, 5.0], [1.0, 4.0], [2.0, 3.0], [3.0, 9.0]])
    inputs = torch.arange(24.0).reshape(4, 6)
    axes = plot.top_inputs(values, inputs, (2, 3), units=[0, 1], count=3)
    drawn = picture(axes)
    for row, best in enumerate([[3, 2, 1], [3, 0, 1]]):
        for column, index in enumerate(best):
            cell = drawn[3 * row : 3 * row + 2, 4 * column : 4 * column + 3]
            assert torch.equal(cell, inputs[index].view(2, 3))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "1"]
    assert saved(axes, tmp_path / "top.png")
    chosen = plot.top_inputs(values, inputs, (2, 3))
    assert [tick.get_text() for tick in chosen.get_yticklabels()] == ["1", "0"]


def test_images_draws_a_grid_with_titles(tmp_path):
    inputs = torch.rand(5, 6)
    axes = plot.images(inputs, (2, 3), list("abcde"), columns=2)
    drawn = picture(axes)
    assert drawn.shape == (3 * 4, 2 * 4)
    for place, (text, pixels) in enumerate(zip(axes.texts, inputs, strict=True)):
        top, left = 4 * (place // 2) + 1, 4 * (place % 2)
        assert torch.equal(drawn[top : top + 2, left : left + 3], pixels.view(2, 3))
        assert text.get_text() == "abcde"[place]
        assert text.get_position() == (left + 1.5, top - 1)
    assert saved(axes, tmp_path / "images.png")
    assert picture(plot.images(inputs, (2, 3))).shape == (3, 8 * 4)
    assert not plot.images(inputs[:0], (2, 3)).images


def test_curves_have_a_point_for_each_value_at_its_epoch(tmp_path):
    axes = plot.loss_curves({"a": [4.0, 2.0, 1.0, 0.5], "b": torch.ones(2)}, epochs=2)
    first, second = axes.lines
    assert list(first.get_xdata()) == [0.25, 0.75, 1.25, 1.75]
    assert list(second.get_xdata()) == [0.5, 1.5]
    assert list(first.get_ydata()) == [4.0, 2.0, 1.0, 0.5] and axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert saved(axes, tmp_path / "loss.png")
    accuracy = plot.accuracy_curves({"a": [0.5, 0.75]})
    assert list(accuracy.lines[0].get_xdata()) == [1.0, 2.0]
    assert list(accuracy.lines[0].get_ydata()) == [0.5, 0.75]
    assert accuracy.yaxis.get_major_formatter()(0.975, 0) == "97.5 %"


def test_confusion_matrix_counts_what_was_taken_for_what(tmp_path):
    axes = plot.confusion_matrix([0, 0, 0, 1, 2], [0, 0, 1, 1, 0], names=["a", "b", "c"])
    counts = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 0): "1"}
    assert picture(axes)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert saved(axes, tmp_path / "confusion.png")
    with pytest.raises(ValueError, match="expected classes from 0 to 1"):
        plot.confusion_matrix([0, 2], [0, 1], names=["a", "b"])
    with pytest.raises(ValueError, match="as many predictions as labels, got 1 and 2"):
        plot.confusion_matrix([0, 1], [0])


def test_roc_and_precision_recall_are_those_of_the_hand(tmp_path):
    labels, scores = [1, 0, 1, 1, 0], [0.9, 0.8, 0.8, 0.3, 0.1]
    axes = plot.roc(labels, scores, name="net", color="red")
    (line,) = axes.lines
    assert line.get_xdata() == pytest.approx([0, 0, 0.5, 0.5, 1])
    assert line.get_ydata() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    # Of six pairs four are in order, and one is equal.
    assert line.get_label() == "net: area 0.7500" and line.get_color() == "red"
    assert plot.roc(labels, scores, axes) is axes and len(axes.lines) == 2
    axes = plot.precision_recall(labels, scores)
    (line,) = axes.lines
    assert line.get_xdata() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert line.get_ydata() == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert line.get_label() == f"average {(1 + 2 / 3 + 3 / 4) / 3:.4f}"
    assert saved(axes, tmp_path / "precision.png")


def test_the_area_is_the_share_of_pairs_in_order():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (300,), generator=generator)
    scores = torch.randint(20, (300,), generator=generator) + 5 * labels
    positive, negative = scores[labels == 1].double(), scores[labels == 0].double()
    difference = positive[:, None] - negative
    share = ((difference > 0).double() + 0.5 * (difference == 0)).mean().item()
    assert roc_points(rank("", labels, scores))[2] == pytest.approx(share)
    # Average precision: for each positive the precision among those with its score or a higher one.
    precisions = [(labels[scores >= score] == 1).double().mean() for score in positive]
    average = precision_recall_points(rank("", labels, scores))[2]
    assert average == pytest.approx(torch.stack(precisions).mean().item())


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "expected as many scores as labels, got 1"),
        ([0, 2], [0.5, 0.5], "expected labels to be 0 or 1"),
        ([1, 1], [0.5, 0.5], "expected labels of both classes, got one"),
        ([0, 1], [0.5, math.nan], "a score is NaN"),
        ([[0, 1]], [0.5, 0.5], r"expected labels to have 1 dimensions, got shape \[1, 2\]"),
    ],
)
def test_labels_and_scores_that_do_not_fit_are_refused(labels, scores, message):
    for draw in (plot.roc, plot.precision_recall):
        with pytest.raises(ValueError, match=f"{draw.__name__}: {message}"):
            draw(labels, scores)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected weight of shape \[\*, 2 \* 2\], got \[3, 6\]"):
        plot.first_layer(torch.ones(3, 6), (2, 2))
    with pytest.raises(ValueError, match="the same number of rows, got 2 and 3"):
        plot.top_inputs(torch.ones(2, 4), torch.ones(3, 6), (2, 3))
    with pytest.raises(ValueError, match="images: expected 3 titles, got 1"):
        plot.images(torch.ones(3, 6), (2, 3), ["a"])


def test_every_function_draws_where_it_is_told():
    _, axes = pyplot.subplots(2, 4)
    panels = axes.flatten()
    assert plot.first_layer(torch.ones(3, 4), (2, 2), panels[0]) is panels[0]
    assert plot.top_inputs(torch.ones(3, 2), torch.ones(3, 4), (2, 2), axes=panels[1]) is panels[1]
    assert plot.loss_curves({"a": [1.0]}, panels[2]) is panels[2]
    assert plot.accuracy_curves({"a": [1.0]}, panels[3]) is panels[3]
    assert plot.confusion_matrix([0], [0], axes=panels[4]) is panels[4]
    assert plot.precision_recall([0, 1], [0, 1], panels[5]) is panels[5]
    assert plot.images(torch.ones(3, 4), (2, 2), axes=panels[6]) is panels[6]
    assert plot.roc([0, 1], [0, 1], panels[7]) is panels[7]
    assert pyplot.get_fignums() == [1]


def test_a_trace_draws_its_numbers(tmp_path):
    model, batch = by_hand()
    for options, title in (({}, "gradient of the weight"), ({"lr": 0.1}, "update / weight")):
        trace = explain_backward(model, batch, None, total, **options)
        figure = trace.plot()
        gradient, share, weight = figure.axes
        last, relu, first = trace.layers
        sizes = [size for layer in trace.layers for size in (layer.gradient_in, layer.gradient_out)]
        assert list(gradient.lines[0].get_xdata()) == sizes
        assert [text.get_text() for text in gradient.texts] == ["x 2.2", "x 0.77", "x 1.5"]
        assert [tick.get_text() for tick in gradient.get_yticklabels()] == ["2", "relu(0)", "0"]
        assert [bar.get_width() for bar in share.patches[:3]] == [0, relu.zero_share, 0]
        field = "update_ratio" if options else "weight_gradient_norm"
        assert list(weight.lines[0].get_xdata()) == [getattr(x, field) for x in (last, first)]
        assert weight.get_title() == title
        assert saved(gradient, tmp_path / "trace.png")
        mine = pyplot.figure()
        assert trace.plot(mine) is mine and len(mine.axes) == 3


def test_a_trace_without_any_gradient_can_be_drawn():
    model = network()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert trace_of(model)["0"].gradient_in == 0
    trace_of(model).plot().canvas.draw()


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch):
    trace = trace_of(network())
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (trace.plot, lambda: plot.roc([0, 1], [0, 1]), lambda: plot.loss_curves({})):
        with pytest.raises(ImportError, match="not installed: pip install matplotlib"):
            draw()
