"""A first layer on sparse rows computes what it computes on the same rows made dense."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sparse_data import Rows, draw_layer, draw_rows
from tolerance import assert_same_bits, assert_within
from torch.nn import functional as F

import pyfastnn
from pyfastnn import reference
from pyfastnn._sparse_function import SparseLinearFunction
from pyfastnn.functional import linear_relu, mlp

ops = torch.ops.pyfastnn
SIZES = [(1, 20, 5, 3), (7, 300, 40, 16), (13, 90, 80, 33), (40, 700, 30, 128), (9, 50, 20, 131)]


@pytest.fixture(params=["rows", "columns", "strided"])
def layout(request):
    """How the memory of a weight lies."""
    return {
        "rows": lambda weight: weight,
        "columns": lambda weight: weight.t().contiguous().t(),
        "strided": lambda weight: weight.repeat_interleave(2, 1)[:, ::2],
    }[request.param]


@pytest.mark.parametrize(("relu", "index"), [(False, torch.int32), (True, torch.int64)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients_are_those_of_dense_rows(isa, dtype, layout, relu, index, size):
    rows, columns, most, out = size
    x = draw_rows(rows, columns, most, dtype, index, unique=True)
    weight, bias, grad = draw_layer(x, out, dtype)
    weight = layout(weight)
    y = ops.sparse_linear(*x, weight, bias, relu)
    dense = x.dense()
    assert_within(y, reference.bounded_fprop(dense, weight, bias, relu), "output")
    saved = y if relu else None
    got = ops.sparse_linear_backward(grad, *x[:3], weight, saved, [True] * 3)
    of_x, *want = reference.bounded_mlp_backward(grad, dense, [weight], [y] if relu else [], relu)
    entry_rows = torch.arange(rows).repeat_interleave(x.crow.diff().long())
    at = entry_rows, x.col.long()
    want = [reference.Bounded(of_x.value[at], of_x.bound[at]), *want]
    for name, ours, right in zip(("values", "weight", "bias"), got, want, strict=True):
        assert_within(ours, right, name)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["torch", "csr_array", "csr_matrix"])
def test_functions_and_modules_take_sparse_rows(kind, bias):
    x = draw_rows(12, 40, 9, torch.float32)
    make = {"csr_array": sparse.csr_array, "csr_matrix": sparse.csr_matrix}.get(kind)
    argument = x.tensor() if kind == "torch" else x.scipy(make)
    layer = pyfastnn.LinearReLU(40, 7, bias)
    torch.testing.assert_close(layer(argument), layer(x.dense()))
    for sizes in ([40, 3], [40, 7, 3], [40, 16, 8, 3]):
        for activate_last in (False, True):
            model = pyfastnn.MLP(sizes, bias, activate_last)
            torch.testing.assert_close(model(argument), model(x.dense()))
            weights, biases = list(model.parameters())[:: 1 + bias], [None] * (len(sizes) - 1)
            if bias:
                biases = list(model.parameters())[1::2]
            got = mlp(argument, tuple(weights), biases, activate_last)
            torch.testing.assert_close(got, model(x.dense()))


def test_a_network_hands_gradients_to_all_parameters_and_to_the_entries():
    x = draw_rows(12, 40, 9, unique=True)
    model = pyfastnn.MLP([40, 16, 8, 3]).double()
    argument, dense = x.tensor().requires_grad_(), x.dense().requires_grad_()
    got = torch.autograd.grad(model(argument).square().sum(), [argument, *model.parameters()])
    want = torch.autograd.grad(model(dense).square().sum(), [dense, *model.parameters()])
    at = torch.arange(12).repeat_interleave(x.crow.diff()), x.col
    torch.testing.assert_close(got[0].values(), want[0][at])
    for ours, right in zip(got[1:], want[1:], strict=True):
        torch.testing.assert_close(ours, right)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("needs", [(1, 1, 1), (0, 1, 0), (1, 0, 0), (0, 0, 1)], ids=str)
def test_gradcheck_and_gradgradcheck(needs, relu):
    x = draw_rows(5, 9, 6)
    weight, bias, _ = draw_layer(x, 4)
    arguments = [
        t.clone().requires_grad_(bool(n))
        for t, n in zip((x.values, weight, bias), needs, strict=True)
    ]

    function = layer_of(x, relu)
    assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, arguments)


def layer_of(x, relu):
    def function(values, weight, bias):
        return SparseLinearFunction.apply(x.crow, x.col, values, x.columns, weight, bias, relu)

    return function


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap runs member by member
@pytest.mark.parametrize("relu", [False, True])
def test_transforms_of_torch_func(relu):
    x = draw_rows(5, 9, 6)
    weight, bias, _ = draw_layer(x, 4)
    tangents = [torch.randn_like(t) for t in (x.values, weight, bias)]
    function = layer_of(x, relu)

    def dense(values, weight, bias):
        z = F.linear(x._replace(values=values).dense(), weight, bias)
        return torch.relu(z) if relu else z

    arguments = x.values, weight, bias
    for transform in (
        lambda f: torch.func.jvp(f, arguments, tuple(tangents)),
        lambda f: torch.func.grad(lambda *a: f(*a).square().sum(), (0, 1, 2))(*arguments),
        lambda f: torch.func.jacfwd(f, 1)(*arguments),
    ):
        torch.testing.assert_close(transform(function), transform(dense))
    many = torch.stack([weight, 2 * weight])
    got = torch.func.vmap(lambda w: function(x.values, w, bias))(many)
    torch.testing.assert_close(got, torch.stack([dense(x.values, w, bias) for w in many]))


def test_the_operators_themselves_are_differentiable_by_plain_operations():
    x = draw_rows(5, 9, 6)
    weight, bias, grad = draw_layer(x, 4)
    arguments = [t.requires_grad_() for t in (x.values, weight, bias)]
    for relu in (False, True):
        y = ops.sparse_linear(x.crow, x.col, x.values, 9, weight, bias, relu)
        want = layer_of(x, relu)(*arguments)
        torch.testing.assert_close(y, want)
        for ours, right in zip(
            torch.autograd.grad(y, arguments, grad),
            torch.autograd.grad(want, arguments, grad),
            strict=True,
        ):
            torch.testing.assert_close(ours, right)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(dtype, layout, relu, grad):
    x = draw_rows(5, 9, 6, dtype)
    weight, bias, dy = draw_layer(x, 4, dtype)
    values, weight, bias = (t.requires_grad_(grad) for t in (x.values, layout(weight), bias))
    torch.library.opcheck(ops.sparse_linear.default, (x.crow, x.col, values, 9, weight, bias, relu))
    arguments = dy, x.crow, x.col, values.detach(), weight.detach()
    y = ops.sparse_linear(x.crow, x.col, *arguments[3:4], 9, arguments[4], None, relu)
    for needs in ([True] * 3, [False, True, False]):
        args = (*arguments, y if relu else None, needs)
        torch.library.opcheck(ops.sparse_linear_backward.default, args)


@pytest.mark.parametrize("out", [0, 5])
@pytest.mark.parametrize("columns", [0, 4])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_empty_matrices(rows, columns, out):
    x = draw_rows(rows, columns, 0)
    weight, bias, _ = (t.requires_grad_() for t in draw_layer(x, out))
    y = linear_relu(x.scipy(), weight, bias)
    torch.testing.assert_close(y, F.relu(bias).expand(rows, out))
    grads = torch.autograd.grad(y.sum(), [weight, bias])
    torch.testing.assert_close(grads[0], torch.zeros_like(weight))
    torch.testing.assert_close(grads[1], rows * (bias > 0).double())


def test_entries_of_the_same_place_add_up_and_stored_zeros_are_entries():
    crow, col = torch.tensor([0, 3, 3, 5]), torch.tensor([2, 0, 2, 1, 1])
    x = Rows(crow, col, torch.tensor([1.0, 5.0, 2.0, 4.0, -4.0]), 3)
    weight = torch.tensor([[1.0, 10.0, 100.0]])
    assert ops.sparse_linear(*x, weight, None, False).tolist() == [[305.0], [0.0], [0.0]]
    _, dw = ops.sparse_linear_backward(torch.ones(3, 1), *x[:3], weight, None, [True, True, False])
    assert dw.tolist() == [[5.0, 0.0, 3.0]]


def test_edge_values_travel_from_entries_and_weights_but_not_from_absent_columns(isa):
    inf, nan = float("inf"), float("nan")
    crow, col = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 1, 2, 0])
    x = Rows(crow, col, torch.tensor([1.0, nan, 0.0, inf]), 4)
    weight = torch.tensor([[1.0, 1.0, inf, nan], [-1.0, 0.0, nan, inf]])
    got = ops.sparse_linear(*x, weight, None, True)
    want = torch.tensor([[1.0, 0.0], [nan, nan], [nan, nan], [inf, 0.0]])
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_where_the_sum_is_zero_the_gradient_is_zero():
    x = Rows(torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([1.0, 1.0]), 2)
    weight = torch.tensor([[1.0, -1.0]], requires_grad=True)
    linear_relu(x.tensor(), weight).sum().backward()
    assert weight.grad.tolist() == [[0.0, 0.0]]


def results(x, weight, bias, grad):
    y = ops.sparse_linear(*x, weight, bias, True)
    return [y, *ops.sparse_linear_backward(grad, *x[:3], weight, y, [True] * 3)]


def test_the_bits_do_not_depend_on_the_number_of_threads(isa, dtype, threads, layout):
    x = draw_rows(150, 2500, 120, dtype)
    weight, bias, grad = draw_layer(x, 130, dtype)
    weight = layout(weight)
    want = results(x, weight, bias, grad)
    for count in (2, 3):
        torch.set_num_threads(count)
        for got, right in zip(results(x, weight, bias, grad), want, strict=True):
            assert_same_bits(got, right)


def test_the_bits_of_a_row_do_not_depend_on_its_batch(isa, dtype):
    x = draw_rows(60, 400, 300, dtype)
    weight, bias, _ = draw_layer(x, 37, dtype)
    whole = ops.sparse_linear(*x, weight, bias, True)
    for i in (0, 1, 30, 59):
        begin, end = x.crow[i : i + 2].tolist()
        one = torch.tensor([0, end - begin]), x.col[begin:end], x.values[begin:end], 400
        assert_same_bits(ops.sparse_linear(*one, weight, bias, True), whole[i : i + 1])


def test_a_vocabulary_that_would_not_fit_the_memory_if_dense():
    rows, columns = 300_000, 3_000_000
    x = sparse.csr_array(
        (np.ones(rows, np.float32), np.arange(rows) * 7 % columns, np.arange(rows + 1)),
        shape=(rows, columns),
    )
    model = pyfastnn.MLP([columns, 2, 2])
    assert model(x).shape == (rows, 2)
    step = pyfastnn.TrainStep(
        model, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
    )
    step.run_epoch(x, torch.zeros(rows, dtype=torch.int64), 100_000)


def test_arrays_that_must_not_be_written_are_read_without_a_warning(recwarn):
    x = draw_rows(3, 5, 4).scipy()
    x.data.flags.writeable = x.indices.flags.writeable = x.indptr.flags.writeable = False
    weight = torch.ones(2, 5, dtype=torch.float64)
    torch.testing.assert_close(
        linear_relu(x, weight), torch.relu(torch.from_numpy(x @ np.ones((5, 2))))
    )
    assert not [w for w in recwarn if "writable" in str(w.message)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # compiled graphs break at sparse tensors
@pytest.mark.parametrize("kind", ["tensor", "scipy"])
def test_compiled_code_calls_the_layer_outside_of_its_graphs(kind):
    torch._dynamo.reset()
    x = getattr(draw_rows(20, 30, 9, torch.float32), kind)()
    model = pyfastnn.MLP([30, 8, 4])
    compiled = torch.compile(lambda x: model(x) * 2, backend="aot_eager")
    for function in (compiled, lambda x: model(x) * 2):
        model.zero_grad()
        y = function(x)
        y.sum().backward()
        results = [y.detach(), *(parameter.grad for parameter in model.parameters())]
        if function is compiled:
            got = results
    for ours, want in zip(got, results, strict=True):
        assert_same_bits(ours, want)
