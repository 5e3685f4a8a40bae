"""Wrong arguments raise an error that names the argument, what was expected and what came."""

import pytest
import torch

from pyfastnn import MLP, LinearReLU
from pyfastnn.functional import linear_relu, mlp

ones = torch.ones
W, B = ones(3, 4), ones(3)

LAYER_ERRORS = [
    (
        (ones(2, 5), W, B),
        r"linear_relu: expected weight of shape \[N, 5\] .*\[2, 5\].*got \[3, 4\]",
    ),
    ((ones(2, 4), ones(4), None), r"linear_relu: expected weight of shape \[N, 4\].*got \[4\]"),
    ((ones(2, 4), ones(1, 3, 4), None), r"expected weight of shape \[N, 4\].*got \[1, 3, 4\]"),
    ((torch.tensor(1.0), W, B), r"linear_relu: expected input of shape \[\*, K\].*got a scalar"),
    ((ones(2, 4), W, ones(4)), r"linear_relu: expected bias of shape \[3\].*got \[4\]"),
    ((ones(2, 4), W, ones(1)), r"expected bias of shape \[3\].*got \[1\]"),
    ((ones(2, 4), W, ones(1, 3)), r"expected bias of shape \[3\].*got \[1, 3\]"),
    ((ones(2, 4), W, torch.tensor(1.0)), r"expected bias of shape \[3\].*got \[\]"),
    ((ones(2, 4), W.double(), B), r"expected weight of dtype [Ff]loat.* got [Dd]ouble"),
    ((ones(2, 4).bfloat16(), W, B), r"expected weight of dtype BFloat16 like input, got Float"),
    ((ones(2, 4), W, B.half()), r"expected bias of dtype Float like input, got Half"),
    ((ones(2, 4).int(), W.int(), B.int()), r"expected input of dtype float32.*got Int"),
    ((ones(2, 4).to(torch.complex64), W, B), r"expected input of dtype float32.*got ComplexFloat"),
    ((ones(2, 4), W.to("meta"), B), r"expected weight on device cpu like input, got meta"),
    ((ones(2, 4), W, B.to("meta")), r"expected bias on device cpu like input, got meta"),
    ((ones(2, 4).to("meta"), W, B), r"expected weight on device meta like input, got cpu"),
    ((ones(2, 4).to_sparse(), W, B), "linear_relu.*CSR format.*sparse_coo"),
    ((ones(2, 4), W.to_sparse(), B), "linear_relu.*SparseCPU"),
]

MLP_ERRORS = [
    ((ones(2, 4), [], []), r"mlp: expected weights to hold at least one layer"),
    ((ones(2, 4), [W], []), r"mlp: expected biases to hold one entry .* 1 weights, got 0"),
    ((ones(2, 4), [W], [B, B]), r"mlp: expected biases to hold one entry .* 1 weights, got 2"),
    ((ones(2, 4), [W, W], [B, B]), r"mlp: expected weights\[1\] of shape \[N, 3\].*got \[3, 4\]"),
    ((ones(2, 5), [W], [B]), r"mlp: expected weights\[0\] of shape \[N, 5\].*got \[3, 4\]"),
    ((ones(2, 4), [W, ones(3)], [B, B]), r"expected weights\[1\] of shape \[N, 3\].*got \[3\]"),
    ((ones(2, 4), [W], [ones(2)]), r"mlp: expected biases\[0\] of shape \[3\].*got \[2\]"),
    ((ones(2, 4), [W, ones(2, 3).double()], [B, None]), r"weights\[1\] of dtype Float"),
    ((ones(2, 4), [W, ones(2, 3, device="meta")], [B, None]), r"weights\[1\] on device cpu"),
    ((ones(2, 4).int(), [W], [B]), r"mlp: expected input of dtype float32.*got Int"),
]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("arguments, message", LAYER_ERRORS)
def test_wrong_arguments_of_linear_relu(arguments, message, mode):
    with mode(), pytest.raises(RuntimeError, match=message):
        linear_relu(*arguments)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("arguments, message", MLP_ERRORS)
def test_wrong_arguments_of_mlp(arguments, message, mode):
    with mode(), pytest.raises(RuntimeError, match=message):
        mlp(*arguments)
    with mode(), pytest.raises(RuntimeError, match=message.replace("mlp:", "mlp.*:")):
        torch.ops.pyfastnn.mlp_forward(*arguments, False)


@pytest.mark.parametrize("arguments, message", LAYER_ERRORS + MLP_ERRORS)
def test_wrong_arguments_that_require_grad(arguments, message):
    def with_grad(value):
        if isinstance(value, list):
            return [with_grad(item) for item in value]
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.detach().requires_grad_() if floating else value

    function = mlp if isinstance(arguments[1], list) else linear_relu
    with pytest.raises(RuntimeError, match=message):
        function(*map(with_grad, arguments))


def test_arguments_that_are_no_tensors():
    with pytest.raises((RuntimeError, TypeError), match="input"):
        linear_relu([1.0], W, B)
    with pytest.raises((RuntimeError, TypeError), match="weight"):
        linear_relu(ones(2, 4), None, B)
    with pytest.raises((RuntimeError, TypeError), match="biases"):
        mlp(ones(2, 4), [W], None)


def test_modules_pass_the_error_on():
    with pytest.raises(RuntimeError, match=r"expected weight of shape \[N, 5\].*got \[3, 4\]"):
        LinearReLU(4, 3)(ones(2, 5))
    with pytest.raises(RuntimeError, match=r"expected weights\[0\] of shape \[N, 5\]"):
        MLP([4, 3])(ones(2, 5))


BACKWARD_ERRORS = {
    "grad_output": (dict(grad_output=ones(2, 2)), r"expected grad_output of shape \[2, 3\]"),
    "grad dtype": (dict(grad_output=ones(2, 3).double()), r"expected grad_output of dtype Float"),
    "grad device": (dict(grad_output=ones(2, 3, device="meta")), "expected grad_output on device"),
    "outputs": (dict(outputs=[]), r"expected outputs to hold one tensor for each of the 1"),
    "output": (
        dict(outputs=[ones(2, 4)]),
        r"expected outputs\[0\] of shape \[2, 3\].*got \[2, 4\]",
    ),
    "needs_grad": (dict(needs_grad=[True]), r"expected needs_grad to hold 1 \+ 2 \* 1 entries"),
    "weight": (dict(weights=[ones(3, 5)]), r"expected weights\[0\] of shape \[N, 4\]"),
}


@pytest.mark.parametrize("change, message", BACKWARD_ERRORS.values(), ids=BACKWARD_ERRORS)
def test_wrong_arguments_of_the_backward_op(change, message):
    right = dict(
        grad_output=ones(2, 3),
        input=ones(2, 4),
        weights=[W],
        outputs=[ones(2, 3)],
        activate_last=True,
        needs_grad=[True, True, True],
    )
    torch.ops.pyfastnn.mlp_backward(**right)
    with pytest.raises(RuntimeError, match="mlp_backward: " + message):
        torch.ops.pyfastnn.mlp_backward(**{**right, **change})


def test_a_failed_call_changes_nothing():
    x, w, b = ones(2, 4), W.clone(), B.clone()
    with pytest.raises(RuntimeError):
        linear_relu(x, w, ones(7))
    assert torch.equal(x, ones(2, 4)) and torch.equal(w, W) and torch.equal(b, B)
    assert x._version == w._version == b._version == 0
