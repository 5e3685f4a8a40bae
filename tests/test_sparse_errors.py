"""Sparse input that is wrong is refused with a message, before anything is written."""

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sparse_data import Rows, draw_rows
from torch import nn
from trainers import assert_parameters_close, make_model, sgd_of

import pyfastnn
from pyfastnn import TrainStep
from pyfastnn.functional import linear_relu, mlp

ops = torch.ops.pyfastnn
X = draw_rows(4, 6, 5, torch.float32)
W, B = torch.ones(3, 6), torch.ones(3)
I64 = torch.int64


def with_index(place, value, index):
    """X, whose rows hold 2, 1 and 1 entries, with one index changed."""
    crow, col = torch.tensor([0, 2, 3, 4]), torch.tensor([0, 5, 2, 1])
    (crow if place[0] == "crow" else col)[place[1]] = value
    return Rows(crow.to(index), col.to(index), torch.ones(4), 6)


BROKEN = {
    "negative column": (("col", 1), -1, r"col_indices of input from 0 to 5, got -1 at index 1"),
    "column too large": (("col", 3), 6, r"col_indices of input from 0 to 5, got 6 at index 3"),
    "huge column": (("col", 0), 2**31 - 1, r"col_indices of input from 0 to 5, got 2147483647"),
    "late start": (("crow", 0), 1, r"crow_indices of input from 0 to its 4 values, got 1 to 4"),
    "early end": (("crow", 3), 3, r"crow_indices of input from 0 to its 4 values, got 0 to 3"),
    "late end": (("crow", 3), 5, r"crow_indices of input from 0 to its 4 values, got 0 to 5"),
    "descending": (("crow", 1), 4, r"crow_indices of input to ascend, got 4 before 3 at index 1"),
    "negative row": (("crow", 1), -4, r"crow_indices of input to ascend, got 0 before -4"),
    "far row": (("crow", 2), 2**31 - 1, r"crow_indices of input to ascend"),
}


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("kind", BROKEN)
def test_indices_out_of_range_are_refused_by_the_operators(kind, index):
    place, value, message = BROKEN[kind]
    x = with_index(place, value, index)
    with pytest.raises(RuntimeError, match=f"sparse_linear: expected {message}"):
        ops.sparse_linear(*x, W, B, True)
    with pytest.raises(RuntimeError, match=f"sparse_linear: expected {message}"):
        ops.sparse_linear_backward(torch.ones(3, 3), *x[:3], W, None, [True] * 3)


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("kind", BROKEN)
def test_indices_out_of_range_are_refused_before_training_changes_anything(kind, index):
    place, value, message = BROKEN[kind]
    x = with_index(place, value, index)
    model = make_model((6, 5, 3), torch.float32)
    other = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters())
    step = TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    broken = sparse.csr_array((3, 6), dtype=np.float32)
    broken.indptr, broken.indices, broken.data = (t.numpy() for t in x[:3])
    for run in (step, lambda X, y: step.run_epoch(X, y, 1)):
        with pytest.raises(RuntimeError, match=f"TrainStep: expected {message}"):
            run(broken, torch.tensor([0, 1, 2]))
    assert_parameters_close(model, other, rtol=0, atol=0)
    assert not optimizer.state


ARGUMENTS = {
    "dtype of weight": (X, W.double(), B, "expected weight of dtype Float .*got Double"),
    "dtype of bias": (X, W, B.half(), "expected bias of dtype Float .*got Half"),
    "columns": (X, W[:, :5], B, r"expected weight of shape \[N, 6\] to match input \[4, 6\].*5\]"),
    "weight": (X, W[0], B, r"expected weight of shape \[N, K\], got \[6\]"),
    "bias": (X, W, B[:2], r"expected bias of shape \[3\].*got \[2\]"),
    "meta": (X, W.to("meta"), B, "expected weight on device cpu"),
    "integers": (X._replace(values=X.values.int()), W, B, "dtype float32.*got Int"),
    "index": (X._replace(col=X.col.int()), W, B, "int32 or int64, both the same, got Long and Int"),
    "short index": (X._replace(crow=X.crow.short(), col=X.col.short()), W, B, "got Short"),
    "lengths": (X._replace(col=X.col[1:]), W, B, "expected as many col_indices of input as values"),
    "no crow": (X._replace(crow=X.crow[:0]), W, B, "one entry more than there are rows"),
    "values": (X._replace(values=X.values[:, None]), W, B, "values of input .*one dimension"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_that_do_not_fit(kind):
    x, weight, bias, message = ARGUMENTS[kind]
    with pytest.raises(RuntimeError, match=f"sparse_linear: .*{message}"):
        ops.sparse_linear(*x, weight, bias, True)


def in_layout(method, *arguments):
    with warnings.catch_warnings():  # torch says once that these layouts are in beta
        warnings.simplefilter("ignore", UserWarning)
        return getattr(X.dense(), method)(*arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.dense().to_sparse(), r"layout torch.sparse_coo: use .to_sparse_csr()"),
        (in_layout("to_sparse_csc"), r"layout torch.sparse_csc: use .to_sparse_csr()"),
        (in_layout("to_sparse_bsr", (2, 2)), r"layout torch.sparse_bsr: use .to_sparse_csr()"),
        (X.scipy().tocsc(), "CSR format, got csc: use .tocsr()"),
        (X.scipy().tocoo(), "CSR format, got coo: use .tocsr()"),
        (torch.ones(2, 3, 6).to_sparse_csr(), "of two dimensions, got shape (2, 3, 6)"),
    ],
    ids=["coo", "csc", "bsr", "scipy csc", "scipy coo", "batch"],
)
def test_other_formats_say_what_to_call(x, message):
    model = make_model((6, 5, 3), torch.float32)
    step = TrainStep(model, nn.CrossEntropyLoss(), sgd_of(model))
    target = torch.zeros(4, dtype=I64)
    calls = {
        "linear_relu": lambda: linear_relu(x, W, B),
        "mlp": lambda: mlp(x, [W], [B]),
        "prepack": lambda: pyfastnn.prepack(model)(x),
        "TrainStep": lambda: step(x, target),
    }
    for who, call in calls.items():
        with pytest.raises(RuntimeError, match=f"{who}: expected a sparse .*{re.escape(message)}"):
            call()


def test_lists_of_different_lengths():
    with pytest.raises(RuntimeError, match=r"mlp: expected one bias .* 1 weights and 0 biases"):
        mlp(X.tensor(), [W], [])


def test_what_training_on_sparse_rows_does_not_do():
    model = make_model((6, 5, 3), torch.float32)
    target = torch.zeros(4, dtype=I64)
    step = TrainStep(model, nn.CrossEntropyLoss(), sgd_of(model))
    with pytest.raises(RuntimeError, match=r"expected scale=1 and shift=0 for a sparse X, got 0.5"):
        step.run_epoch(X.tensor(), target, 2, scale=0.5)
    with pytest.raises(RuntimeError, match="expected x not to require grad"):
        step(X.tensor().requires_grad_(), target)
    with pytest.raises(RuntimeError, match=r"expected x of dtype Float.*got Double"):
        step(X._replace(values=X.values.double()).tensor(), target)
    with pytest.raises(RuntimeError, match=r"expected x of shape \[M, 6\], got \[4, 5\]"):
        step(draw_rows(4, 5, 2, torch.float32).tensor(), target)
    with pytest.raises(RuntimeError, match=r"expected target of shape \[4\]"):
        step(X.tensor(), target[:3])
    bfloat16 = TrainStep(model, nn.CrossEntropyLoss(), sgd_of(model), compute_dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="expected compute_dtype=None, got bfloat16"):
        bfloat16(X.tensor(), target)
    with pytest.raises(ValueError, match="sparse_update to be 'exact' or 'lazy', got 'dense'"):
        TrainStep(model, nn.CrossEntropyLoss(), sgd_of(model), sparse_update="dense")
