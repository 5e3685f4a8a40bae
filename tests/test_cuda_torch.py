"""On a CUDA device: the operators and modules in PyTorch's company."""

import copy

import pytest
import torch
from cases import Size, draw, hand_written_network
from cuda_device import DEVICE, here, kernels, outputs_and_gradients, there
from tolerance import assert_same_bits
from torch import nn
from trainers import LOSSES, OPTIMIZERS, draw_batch, make_model, ordinary_step, scale_of

import pyfastnn
from pyfastnn.functional import linear_relu, mlp

__all__ = ["kernels"]  # a fixture

NARROW, WIDE = Size(70, (17, 128, 5, 64)), Size(70, (17, 129, 300, 64))


@pytest.mark.parametrize("to", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=str)
def test_autocast_casts_once(kernels, to, size):
    arguments = draw(size, torch.float32).map(there)
    with torch.autocast("cuda", to):
        y = mlp(*arguments)
    assert_same_bits(y, mlp(*arguments.map(lambda t: t.to(to))))
    leaves = arguments.requires_grad()
    with torch.autocast("cuda", to):
        y = mlp(*leaves)
    y.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in leaves.tensors())


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=str)
def test_graphs_capture_forward_and_backward(kernels, dtype, size):
    arguments = draw(size, dtype).map(there)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            outputs_and_gradients(arguments)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = outputs_and_gradients(arguments)
    for seed in (1, 2):
        for tensor, new in zip(
            arguments.tensors(), draw(size, dtype, seed=seed).tensors(), strict=True
        ):
            tensor.copy_(new)
        graph.replay()
        for got, want in zip(captured, outputs_and_gradients(arguments), strict=True):
            assert_same_bits(got, want)


def test_work_goes_to_the_current_stream(kernels):
    size = Size(4096, (128, 128, 128))
    arguments = draw(size, torch.float32).map(there)
    want = mlp(*arguments)
    stream = torch.cuda.Stream()
    x = torch.zeros_like(arguments.input)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # cycles: whoever does not wait reads zeros
        x.copy_(arguments.input)
        got = mlp(x, *arguments[1:])
    stream.synchronize()
    assert_same_bits(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NOT RUN: there is one CUDA device")
def test_tensors_on_another_than_the_current_device(kernels, dtype):
    for size in (NARROW, WIDE):
        arguments = draw(size, dtype)
        first = outputs_and_gradients(arguments.map(lambda t: t.to("cuda:0")))
        with torch.cuda.device(0):
            other = outputs_and_gradients(arguments.map(lambda t: t.to("cuda:1")))
        assert all(tensor.device.index == 1 for tensor in other)
        for got, want in zip(here(other), here(first), strict=True):
            assert_same_bits(got, want)


def test_wrong_devices_are_named():
    with pytest.raises(RuntimeError, match="expected weight on device cuda:0 like input, got cpu"):
        linear_relu(torch.ones(2, 3, device=DEVICE), torch.ones(4, 3))


MODELS = {
    "MLP": lambda: pyfastnn.MLP([17, 128, 5, 3]),
    "a wide MLP": lambda: pyfastnn.MLP([17, 300, 5, 3]),
    "fuse": lambda: pyfastnn.fuse(hand_written_network([17, 128, 5, 3])),
}


@pytest.mark.parametrize("name", MODELS)
def test_modules_train_as_those_of_torch(kernels, name):
    torch.manual_seed(0)
    ours = MODELS[name]().to(DEVICE)
    theirs = nn.Sequential(*copy.deepcopy(ours))
    assert not pyfastnn.fusion_report(ours).left
    x = torch.randn(70, 17, device=DEVICE)
    for model in (ours, theirs):
        model(x).square().mean().backward()
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad)


@pytest.mark.parametrize("name", MODELS)
def test_compiled_modules_have_no_graph_break(kernels, name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = MODELS[name]().to(DEVICE)
    x = torch.randn(70, 17, device=DEVICE)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).square().sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    torch.testing.assert_close(grads, [p.grad for p in model.parameters()])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_training_steps_equal_those_of_the_cpu(loss, optimizer):
    sizes, loss_fn, make = (20, 40, 5), LOSSES[loss], OPTIMIZERS[optimizer]
    model, other = make_model(sizes).to(DEVICE), make_model(sizes)
    ours, theirs = make(model.parameters()), make(other.parameters())
    for group in (*ours.param_groups, *theirs.param_groups):
        group["lr"] *= scale_of(loss_fn, 33)
    step = pyfastnn.TrainStep(model, loss_fn, ours)
    for i in range(6):
        x, target = draw_batch(sizes, 33, loss_fn, seed=i)
        want = ordinary_step(other, loss_fn, theirs, x, target)
        torch.testing.assert_close(step(there(x), there(target)).cpu(), want)
    torch.testing.assert_close(here(model.parameters()), here(other.parameters()))


def test_a_model_may_move_to_the_device_between_steps():
    sizes, loss_fn = (20, 40, 5), nn.MSELoss()
    model, other = make_model(sizes), make_model(sizes)
    ours, theirs = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    step = pyfastnn.TrainStep(model, loss_fn, ours)
    for i, device in enumerate(("cpu", DEVICE, "cpu")):
        x, target = draw_batch(sizes, 33, loss_fn, seed=i)
        want = ordinary_step(other, loss_fn, theirs, x, target)
        model.to(device)
        torch.testing.assert_close(step(x.to(device), target.to(device)).cpu(), want)


def test_an_epoch_over_bytes_on_the_device():
    sizes, loss_fn = (37, 16, 4), nn.CrossEntropyLoss()
    images, target = torch.randint(256, (60, 37), dtype=torch.uint8), torch.randint(4, (60,))
    losses = []
    for device in ("cpu", DEVICE):
        model = make_model(sizes, torch.float32).to(device)
        step = pyfastnn.TrainStep(model, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1))
        order = torch.Generator().manual_seed(0)
        data = images.to(device), target.to(device)
        losses.append(step.run_epoch(*data, 16, generator=order, scale=1 / 256, shift=-0.5))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
