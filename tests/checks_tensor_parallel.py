"""Modules that torch.distributed.tensor divides among two processes."""

import torch
from cases import hand_written_network
from functions import assert_close
from processes import WORLD, Checks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from pyfastnn import MLP, LinearReLU, fuse

SIZES = [6, 8, 10, 4]
checks = Checks()


def layer() -> nn.Module:
    return LinearReLU(6, 8)


def two_layers() -> nn.Module:
    return nn.Sequential(LinearReLU(6, 8), LinearReLU(8, 4))


def plain_two_layers(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    for linear in model if isinstance(model, nn.Sequential) else [model]:
        x = torch.relu(nn.functional.linear(x, linear.weight, linear.bias))
    return x


PLANS = {
    "columns": (layer, lambda: ColwiseParallel(output_layouts=Replicate())),
    "columns of a sequence": (
        layer,
        lambda: ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(1)),
    ),
    "rows": (layer, lambda: RowwiseParallel(input_layouts=Replicate())),
    "columns, then rows": (two_layers, lambda: {"0": ColwiseParallel(), "1": RowwiseParallel()}),
    "one layer of two": (two_layers, lambda: {"0": ColwiseParallel(output_layouts=Replicate())}),
    "MLP": (lambda: MLP(SIZES), lambda: {"0": ColwiseParallel(), "2": RowwiseParallel()}),
}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def pair(make, seed=0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    ours = make().double()
    plain = make().double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def run_plain(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return nn.Sequential.forward(model, x) if type(model) is MLP else plain_two_layers(model, x)


def assert_same_gradients(ours: nn.Module, plain: nn.Module) -> None:
    for got, want in zip(ours.parameters(), plain.parameters(), strict=True):
        assert_close(whole(got.grad), want.grad)


@checks(*PLANS)
def parallelize_module_is_right(name):
    make, plan = PLANS[name]
    ours, plain = pair(make)
    parallelize_module(ours, init_device_mesh("cpu", (WORLD,)), plan())
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    own = leaves[0]
    of_sequence = "sequence" in name
    rank = torch.distributed.get_rank()
    y = ours(own.chunk(WORLD, 1)[rank] if of_sequence else own)
    want = run_plain(plain, leaves[1])
    grad = torch.randn(want.shape, dtype=torch.float64)
    want.backward(grad)
    if of_sequence:
        want, grad = want.chunk(WORLD, 1)[rank], grad.chunk(WORLD, 1)[rank]
    assert_close(y, want)
    y.backward(grad)
    assert_same_gradients(ours, plain)
    if of_sequence:  # every process has the gradient of its own piece
        torch.distributed.all_reduce(own.grad)
    assert_close(own.grad, leaves[1].grad)


@checks()
def parallel_children_run_one_by_one_and_say_so():
    model = parallelize_module(
        MLP(SIZES), init_device_mesh("cpu", (WORLD,)), {"0": ColwiseParallel()}
    )
    assert model.fallback_reason() == "child 0 has a hook"


def divide_rows(module, inputs, mesh):
    return distribute_tensor(inputs[0], mesh, [Shard(0)])


def keep_rows(module, inputs, mesh):
    return DTensor.from_local(inputs[0], mesh, [Replicate()])


def columns_then_rows(name, module, mesh):
    for parameter_name, parameter in module.named_parameters(recurse=False):
        by_columns = name in ("0", "4")
        by_rows = name == "2" and parameter_name == "weight"
        placement = Shard(0) if by_columns else Shard(1) if by_rows else Replicate()
        parameter = distribute_tensor(parameter.detach(), mesh, [placement])
        module.register_parameter(parameter_name, nn.Parameter(parameter))


@checks("data", "tensor")
def distribute_module_trains_like_one_process(kind):
    mesh = init_device_mesh("cpu", (WORLD,))
    for make in (lambda: MLP(SIZES), two_layers):
        ours, plain = pair(make)
        if kind == "data":
            distribute_module(ours, mesh, None, divide_rows)
        else:
            distribute_module(ours, mesh, columns_then_rows, keep_rows)
        if type(ours) is MLP:
            reason = "child 0 has a weight that is divided among processes"
            assert ours.fallback_reason() == (reason if kind == "tensor" else None)
        optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (ours, plain)]
        for _ in range(3):
            x = torch.randn(5, 6, dtype=torch.float64)
            y, want = ours(x), run_plain(plain, x)
            assert_close(whole(y), want)
            for optimizer, output in zip(optimizers, (y, want), strict=True):
                optimizer.zero_grad()
                output.square().sum().backward()
            assert_same_gradients(ours, plain)
            for optimizer in optimizers:
                optimizer.step()
            assert_close([whole(p) for p in ours.parameters()], [*plain.parameters()])


@checks((1, 2), (2, 1))
def fully_shard_of_divided_layers_is_right(*shape):
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "tensor"))
    ours, plain = pair(two_layers)
    parallelize_module(ours, mesh["tensor"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
    fully_shard(ours, mesh=mesh["data"])
    x = torch.randn(5, 6, dtype=torch.float64)  # the same rows everywhere: the mean is that of one
    y, want = ours(x), run_plain(plain, x)
    assert_close(y, want)
    y.square().sum().backward()
    want.square().sum().backward()
    assert_same_gradients(ours, plain)


@checks("data", "tensor")
def fused_models_are_right(kind):
    mesh = init_device_mesh("cpu", (WORLD,))
    plain = hand_written_network(SIZES, activate_last=True, dtype=torch.float64)
    ours = fuse(plain)
    distribute_module(ours, mesh, columns_then_rows if kind == "tensor" else None)
    x = torch.randn(5, 6, dtype=torch.float64)
    y, want = ours(distribute_tensor(x, mesh, [Replicate()])), plain(x)
    assert y.grad_fn.name() == "MlpBackward"
    assert_close(whole(y), want)
    y.square().sum().backward()
    want.square().sum().backward()
    assert_same_gradients(ours, plain)


@checks()
def compiled_modules_are_right():
    mesh = init_device_mesh("cpu", (WORLD,))
    ours, plain = pair(lambda: MLP(SIZES))
    distribute_module(ours, mesh, columns_then_rows)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 6, dtype=torch.float64)
    y, want = compiled(distribute_tensor(x, mesh, [Replicate()])), run_plain(plain, x)
    assert_close(whole(y), want)
    y.square().sum().backward()
    want.square().sum().backward()
    assert_same_gradients(ours, plain)
