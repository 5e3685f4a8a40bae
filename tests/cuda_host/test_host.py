"""The CUDA operators between dispatcher and kernels, on CPU tensors: order, sizes, what is asked.

``launch_cpu.h`` stands in for the kernels; all else is what runs on a device.
"""

from itertools import islice, pairwise, product

import pytest
import torch
from torch._C import DispatchKey, DispatchKeySet

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Of layers up to 128 wide, of others, of both.
NARROW, WIDE, MIXED = [17, 128, 5, 64], [17, 129, 300, 64], [200, 8, 5, 7, 129, 3, 4]
SIZES = [NARROW, WIDE, MIXED, [3, 4], [200, 1]]
KERNELS = ["auto", "torch", "own"]


def call(name: str, *args: object) -> object:
    op = getattr(torch.ops.pyfastnn, name).default
    return op.redispatch(DispatchKeySet(DispatchKey.CUDA), *args)


def launched() -> list[str]:
    return torch.ops.pyfastnn_host.take_log().split()


@pytest.fixture(params=KERNELS)
def kernels(request, monkeypatch) -> str:
    monkeypatch.setenv("PYFASTNN_CUDA_KERNELS", request.param)
    launched()
    return request.param


def draw(sizes, lead, dtype, bias=True):
    """Small integers, so that sums are exact and results of all ways are the same numbers."""
    generator = torch.Generator().manual_seed(0)

    def integers(*shape):
        return torch.randint(-1, 2, shape, generator=generator).to(dtype)

    weights = [integers(n, k) for k, n in pairwise(sizes)]
    return integers(*lead, sizes[0]), weights, [integers(n) if bias else None for n in sizes[1:]]


def plain(x, weights, biases, activate_last):
    outputs = []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.nn.functional.linear(x, weight, bias)
        x = torch.relu(x) if layer + 1 < len(weights) or activate_last else x
        outputs.append(x)
    return outputs


def widened(x, weights, biases):
    return (
        x.double(),
        [weight.double() for weight in weights],
        [None if bias is None else bias.double() for bias in biases],
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activate_last", [True, False])
def test_forward(kernels, dtype, sizes, bias, activate_last):
    x, weights, biases = draw(sizes, (2, 3), dtype, bias)
    want = plain(*widened(x, weights, biases), activate_last)
    outputs = call("mlp_forward", x, weights, biases, activate_last)
    output = call("mlp", x, weights, biases, activate_last)
    for got, right in zip([*outputs, output], [*want, want[-1]], strict=True):
        assert got.shape == right.shape and got.is_contiguous() and got.dtype == dtype
        assert torch.equal(got.double(), right.to(dtype).double())
    layer = call("linear_relu", x, weights[0], biases[0])
    assert torch.equal(layer.double(), torch.relu(plain(*widened(x, weights, biases), True)[0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("activate_last", [True, False])
def test_backward_for_every_subset_of_the_gradients(kernels, dtype, sizes, activate_last):
    x, weights, biases = draw(sizes, (2, 3), dtype)
    args = [x, *(t for pair in zip(weights, biases, strict=True) for t in pair)]
    leaves = [tensor.double().requires_grad_() for tensor in args]
    wide = plain(leaves[0], leaves[1::2], leaves[2::2], activate_last)
    grad_output = torch.randint(-2, 3, wide[-1].shape).to(dtype)
    right = torch.autograd.grad(wide[-1], leaves, grad_output.double())
    outputs = [output.detach().to(dtype) for output in wide]
    saved = outputs if activate_last else outputs[:-1]
    before = [tensor.clone() for tensor in (grad_output, *saved)]
    subsets = product([False, True], repeat=len(args))
    for needs in subsets if len(args) < 10 else islice(subsets, 0, None, 37):
        grads = call("mlp_backward", grad_output, x, weights, saved, activate_last, list(needs))
        wanted = [grad for grad, need in zip(right, needs, strict=True) if need]
        for got, want in zip(grads, wanted, strict=True):
            assert got.is_contiguous() and got.dtype == dtype
            assert torch.equal(got.double(), want)
    for now, then in zip((grad_output, *saved), before, strict=True):
        assert torch.equal(now, then)  # arguments are read only


def every_second(tensor):
    larger = tensor.new_full([2 * size for size in tensor.shape], 7)
    view = larger[tuple(slice(None, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


def turned(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize("layout", [every_second, turned])
@pytest.mark.parametrize("lead", [(6,), (6, 3)], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_tensors_of_any_strides(kernels, sizes, lead, layout):
    x, weights, biases = draw(sizes, lead, torch.float32)
    want = plain(x, weights, biases, True)
    moved = [layout(weight) for weight in weights]
    got = call("mlp", layout(x), moved, [every_second(bias) for bias in biases], True)
    assert torch.equal(got, want[-1])
    grad = torch.ones_like(want[-1])
    needs = [True] * (1 + 2 * len(weights))
    outputs = [layout(y) for y in want]
    right = call("mlp_backward", grad, x, weights, want, True, needs)
    for grad_output in (layout(grad), grad.new_ones(()).expand(grad.shape)):
        got = call("mlp_backward", grad_output, layout(x), moved, outputs, True, needs)
        for a, b in zip(got, right, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("lead", [(), (0,), (2, 0), (1, 2, 3, 1)], ids=str)
@pytest.mark.parametrize("sizes", [*SIZES, [0, 4, 3], [5, 0, 3], [5, 4, 0]], ids=str)
def test_empty_sizes(kernels, lead, sizes):
    x, weights, biases = draw(sizes, lead, torch.float32)
    want = plain(x, weights, biases, True)
    for got, right in zip(call("mlp_forward", x, weights, biases, True), want, strict=True):
        assert got.shape == right.shape and torch.equal(got, right)
    args = [x, *(t for pair in zip(weights, biases, strict=True) for t in pair)]
    leaves = [tensor.requires_grad_() for tensor in args]
    output = plain(leaves[0], leaves[1::2], leaves[2::2], True)[-1]
    right = torch.autograd.grad(output.sum(), leaves)
    with torch.no_grad():
        got = call(
            "mlp_backward", torch.ones_like(output), x, weights, want, True, [True] * len(args)
        )
    for a, b in zip(got, right, strict=True):
        assert a.shape == b.shape and torch.equal(a, b)


def test_nan_passes_the_relu_and_the_mask(kernels):
    for sizes in SIZES:
        x, weights, biases = draw(sizes, (4,), torch.float32)
        x[1, 0] = float("nan")
        outputs = call("mlp_forward", x, weights, biases, True)
        assert all(y[1].isnan().all() and not y[[0, 2, 3]].isnan().any() for y in outputs)
        needs = [True] + [False] * (2 * len(weights))
        grad = torch.ones_like(outputs[-1])
        (got,) = call("mlp_backward", grad, x, weights, outputs, True, needs)
        dz = grad
        for weight, y in reversed(list(zip(weights, outputs, strict=True))):
            dz = torch.where(y <= 0, 0.0, dz) @ weight
        assert torch.equal(got, dz)


@pytest.mark.parametrize(
    ("sizes", "dtype", "forward", "backward"),
    [
        (NARROW, torch.float32, {"auto": 1, "own": 1}, {"auto": 1, "own": 1}),
        (NARROW, torch.bfloat16, {"auto": 1, "own": 1}, {"auto": 1, "own": 1}),
        (NARROW, torch.float64, {}, {}),
        (WIDE, torch.float32, {"own": 3}, {}),
        (WIDE, torch.float64, {}, {}),
    ],
    ids=str,
)
def test_the_switch_and_the_rule_choose_the_kernels(kernels, sizes, dtype, forward, backward):
    x, weights, biases = draw(sizes, (4,), dtype)
    outputs = call("mlp_forward", x, weights, biases, False)
    name = "network_forward" if sizes == NARROW else "linear"
    assert launched() == [name] * forward.get(kernels, 0)
    call("mlp_backward", outputs[-1], x, weights, outputs[:-1], False, [True] * 7)
    whole = ["network_backward"] * backward.get(kernels, 0)
    assert launched() == (whole or ["mask_bias"] * 3)
    call("mlp_backward", outputs[-1], x, weights, outputs[:-1], False, [False] * 5 + [True, False])
    assert launched() == whole  # nothing to mask, no bias: torch's product is all


def test_runs_of_narrow_layers_go_through_the_kernels_for_networks(monkeypatch):
    launched()
    x, weights, biases = draw(MIXED, (4,), torch.float32)
    outputs = call("mlp_forward", x, weights, biases, True)
    assert launched() == ["network_forward"] * 2  # 8-5-7, 3-4
    needs = [True] * (1 + 2 * len(weights))
    call("mlp_backward", outputs[-1], x, weights, outputs, True, needs)
    backward, masks = ["network_backward"], ["mask_bias"]
    assert launched() == backward + masks * 2 + backward + masks
    call("mlp_backward", outputs[-1], x, weights, outputs, True, [False] * 11 + [True, True])
    assert launched() == backward


def with_allow_tf32():
    torch.backends.cuda.matmul.allow_tf32 = True


def with_precision_of_products():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def with_precision_of_everything():
    torch.backends.fp32_precision = "tf32"


@pytest.fixture
def precision():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize(
    ("switch", "suffix"),
    [
        (lambda: None, ""),
        (with_allow_tf32, "_tf32"),
        (with_precision_of_products, "_tf32"),
        (with_precision_of_everything, "_tf32"),
        (lambda: torch.set_float32_matmul_precision("high"), "_tf32"),
    ],
)
def test_every_switch_of_torch_for_tf32_counts(precision, switch, suffix, monkeypatch):
    monkeypatch.setenv("PYFASTNN_CUDA_KERNELS", "own")
    launched()
    switch()
    for sizes, name in ((NARROW, "network_forward"), (WIDE, "linear")):
        call("mlp", *draw(sizes, (4,), torch.float32), False)
        assert set(launched()) == {name + suffix}


def test_a_failed_launch_raises(kernels, monkeypatch):
    x, weights, biases = draw(WIDE if kernels == "own" else NARROW, (4,), torch.float32)
    broken = {"auto": "network_forward", "own": "linear", "torch": "mask_bias"}[kernels]
    monkeypatch.setenv("PYFASTNN_TEST_BROKEN_LAUNCH", broken)
    message = "a CUDA kernel of pyfastnn could not be launched: invalid argument"
    with pytest.raises(torch.AcceleratorError, match=message):
        outputs = call("mlp_forward", x, weights, biases, False)
        call("mlp_backward", outputs[-1], x, weights, outputs[:-1], False, [True] * 7)


def test_a_wrong_switch_is_named(monkeypatch):
    monkeypatch.setenv("PYFASTNN_CUDA_KERNELS", "fast")
    with pytest.raises(ValueError, match="expected auto, torch or own, got 'fast'"):
        call("mlp", *draw(NARROW, (4,), torch.float32), False)


def test_freed_storage_is_refused(kernels):
    x, weights, biases = draw(NARROW, (4,), torch.float32)
    weights[1].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="storage"):
        call("mlp", x, weights, biases, False)


def test_autocast_does_not_reach_into_a_call(kernels):
    x, weights, biases = draw(WIDE, (4,), torch.float32)
    outputs = call("mlp_forward", x, weights, biases, False)
    with torch.autocast("cpu", torch.bfloat16):
        again = call("mlp_forward", x, weights, biases, False)
        grads = call("mlp_backward", outputs[-1], x, weights, outputs[:-1], False, [True] * 7)
    assert all(y.dtype == torch.float32 for y in (*again, *grads))
