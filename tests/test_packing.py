import threading

import pytest
import torch
from cases import DTYPES
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import pyfastnn

SIZES = [[784, 128, 64, 10], [17, 33, 5], [1, 1], [130, 40], [0, 4, 2], [5, 0, 3], [300, 700]]


def mlp(sizes, dtype=torch.float32, **options):
    torch.manual_seed(sum(sizes))
    return pyfastnn.MLP(sizes, dtype=dtype, **options)


def with_wrapped_bias():
    linear = nn.Linear(2, 2)
    linear.bias = nn.Parameter(TwoTensor(torch.ones(2), torch.ones(2)))
    return linear


def with_freed_weight():
    linear = nn.Linear(2, 2)
    linear.weight.untyped_storage().resize_(0)
    return linear


@pytest.mark.parametrize("isa", pyfastnn.available_isas())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_output_has_the_bits_of_the_model_for_every_isa_and_batch(sizes, dtype, isa):
    with pyfastnn.force_isa(isa), torch.no_grad():
        model = mlp(sizes, dtype)
        packed = pyfastnn.prepack(model)
        for rows in (0, 1, 2, 3, 4, 7, 13, 50, 700):
            x = torch.randn(rows, sizes[0]).to(dtype)
            assert torch.equal(packed(x), model(x)), rows


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_threads(threads):
    model = mlp([300, 500, 20])
    x = torch.randn(600, 300)
    with torch.no_grad():
        expected = model(x)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(pyfastnn.prepack(model)(x), expected)
    finally:
        torch.set_num_threads(before)


def test_any_leading_dimensions_and_strides():
    model = mlp([6, 5, 4])
    packed = pyfastnn.prepack(model)
    x = torch.randn(3, 7, 6)
    negative = torch.complex(torch.zeros(4, 6), torch.ones(4, 6)).conj().imag
    assert negative.is_neg()
    for input in (x, x[0, 0], x[:, ::2], x.transpose(0, 1), x[..., :1].expand(3, 7, 6), negative):
        with torch.no_grad():
            assert torch.equal(packed(input), model(input))


def test_models_that_can_be_packed():
    hidden = nn.Sequential(pyfastnn.LinearReLU(12, 8, bias=False), nn.Dropout(0.5), nn.Linear(8, 8))
    model = nn.Sequential(nn.Flatten(), nn.Identity(), hidden, nn.ReLU(), nn.Linear(8, 3)).eval()
    packed = pyfastnn.prepack(model)
    x = torch.randn(5, 3, 4)
    torch.testing.assert_close(packed(x), model(x).detach())
    for layer in (nn.Linear(4, 3), pyfastnn.LinearReLU(4, 3)):
        x = torch.randn(2, 4)
        torch.testing.assert_close(pyfastnn.prepack(layer)(x), layer(x).detach())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh()), "prepack: .*but 1 is a Tanh"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "prepack: .*but 1 is a Dropout"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "prepack: 0 is a ReLU that follows no Linear"),
        (nn.Sequential(), "prepack: expected the model to have a Linear layer"),
        (torch.zeros(2), "prepack: expected model to be an nn.Module, got Tensor"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "prepack: model computes its"),
    ],
)
def test_other_models_are_refused(model, message):
    with pytest.raises(TypeError, match=message):
        pyfastnn.prepack(model)


def test_hooks_of_the_model_are_refused():
    model = mlp([2, 3, 2])
    model[0].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="prepack: 0 has a hook"):
        pyfastnn.prepack(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2, device="meta"), "prepack: expected dense parameters on the CPU"),
        (with_wrapped_bias(), "prepack: expected dense parameters on the CPU"),
        (with_freed_weight(), "to have its 16 bytes of storage, got 0"),
        (nn.Linear(2, 2, dtype=torch.complex64), "expected input of dtype"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 2)), r"weights\[1\] of shape \[N, 3\]"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2, dtype=torch.half)), "of dtype Float"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(model, message):
    with pytest.raises(RuntimeError, match=message):
        pyfastnn.prepack(model)


@pytest.mark.parametrize(
    ("input", "message"),
    [
        (torch.zeros(3, 5), r"expected input of shape \[\*, 4\], got \[3, 5\]"),
        (torch.tensor(1.0), r"expected input of shape \[\*, 4\], got \[\]"),
        (torch.zeros(3, 4).double(), "expected input of dtype float like .*, got Double"),
        (torch.zeros(3, 4, device="meta"), "expected input to be a dense tensor on the CPU"),
        (torch.zeros(3, 4).to_sparse(), r"use .to_sparse_csr\(\)"),
        (torch.zeros(3, 4).to_mkldnn(), "expected input to be a dense tensor on the CPU"),
        (torch._efficientzerotensor(3, 4), "expected input to be a dense tensor on the CPU"),
        (TwoTensor(torch.ones(3, 4), torch.ones(3, 4)), "no subclass"),
        (torch.zeros(3, 4, requires_grad=True), "expected input not to require grad"),
    ],
    ids=["shape", "scalar", "dtype", "meta", "sparse", "mkldnn", "zero", "subclass", "grad"],
)
def test_other_inputs_are_refused(input, message):
    with pytest.raises(RuntimeError, match=f"prepack: .*{message}"):
        pyfastnn.prepack(mlp([4, 3]))(input)


def test_gradients_are_refused_in_every_form():
    packed = pyfastnn.prepack(mlp([4, 3]))
    x = torch.zeros(3, 4, requires_grad=True)
    with torch.no_grad():
        assert not packed(x).requires_grad
    with torch.inference_mode():
        packed(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.zeros(3, 4), torch.ones(3, 4))
        with pytest.raises(RuntimeError, match="forward-mode tangent"):
            packed(dual)
    with pytest.raises(RuntimeError, match="dense tensor on the CPU"):
        torch.func.vmap(packed)(torch.zeros(3, 4))
    with pytest.raises(RuntimeError, match="cannot be traced"):
        torch.jit.trace(packed, torch.zeros(3, 4))


def test_training_and_conversion_are_refused():
    packed = pyfastnn.prepack(mlp([4, 3]))
    assert not packed.training and packed.eval() is packed and not list(packed.parameters())
    for refused in (packed.train, packed.requires_grad_, nn.Sequential(packed).train):
        with pytest.raises(RuntimeError, match="for inference only"):
            refused()
    for convert in (packed.double, packed.half, lambda: packed.to("meta")):
        with pytest.raises(RuntimeError, match=r"packed weights stay torch\.float32 on the CPU"):
            convert()
    with torch.device("meta"):
        assert packed.to("cpu").float() is packed


def test_it_is_a_module_with_hooks():
    packed = pyfastnn.prepack(mlp([4, 3]))
    seen = []
    packed.register_forward_hook(lambda module, args, output: seen.append(output))
    output = nn.Sequential(packed, nn.ReLU())(torch.randn(2, 4))
    assert len(seen) == 1 and torch.equal(output, seen[0].relu())
    assert "4-3, torch.float32" in repr(packed)


def test_several_threads_may_call_it_at_once():
    model = mlp([100, 300, 50, 7])
    packed = pyfastnn.prepack(model)
    inputs = [torch.randn(rows, 100) for rows in (1, 3, 40, 500)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(200):
            if not torch.equal(packed(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_gil_is_released():
    # While a call runs, Python code of another thread goes on. With the GIL held it could not.
    packed = pyfastnn.prepack(mlp([1024] * 5))
    x = torch.randn(2000, 1024)
    started, finished, ticks = threading.Event(), threading.Event(), []

    def count():
        started.set()
        while not finished.is_set():
            ticks.append(None)
            finished.wait(1e-3)

    thread = threading.Thread(target=count)
    thread.start()
    started.wait()
    before = len(ticks)
    packed(x)
    during = len(ticks) - before
    finished.set()
    thread.join()
    assert during > 5


def test_torch_compile_leaves_it_alone():
    packed = pyfastnn.prepack(mlp([4, 3]))
    model = nn.Sequential(packed, nn.ReLU())
    x = torch.randn(2, 4)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(x), model(x))
