"""DistributedDataParallel and fully_shard around pyfastnn's modules, in two processes."""

import torch
import torch.distributed as dist
from cases import hand_written_network, integers
from functions import assert_close
from processes import WORLD, Checks
from tolerance import assert_equal
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from pyfastnn import MLP, LinearReLU

SIZES, ROWS = [12, 20, 16, 3], 10


def plain_layers() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(12, 20), nn.ReLU()), nn.Linear(20, 3))


class TwoHeads(nn.Module):
    """Has a head that takes no part."""

    def __init__(self, body: nn.Module, unused: nn.Module) -> None:
        super().__init__()
        self.body, self.unused = body, unused

    def forward(self, input):
        return self.body(input)


# What is tested, and what a user of PyTorch writes in its place: parameters in the same order.
PAIRS = {
    "MLP": (lambda: MLP(SIZES), lambda: hand_written_network(SIZES)),
    "LinearReLU": (
        lambda: nn.Sequential(LinearReLU(12, 20), nn.Linear(20, 3)),
        plain_layers,
    ),
    "a part of it": (
        lambda: TwoHeads(MLP(SIZES), LinearReLU(12, 3)),
        lambda: TwoHeads(hand_written_network(SIZES), nn.Linear(12, 3)),
    ),
}
OPTIONS = {
    "defaults": {},
    "static_graph": {"static_graph": True},
    "find_unused_parameters": {"find_unused_parameters": True},
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True, "bucket_cap_mb": 1e-4},
}
POLICIES = {"as they are": None, "bfloat16": torch.bfloat16}
checks = Checks()


def make_pair(name, dtype=torch.float64) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours, plain = (make().to(dtype) for make in PAIRS[name])
    with torch.no_grad():
        for parameter, copied in zip(plain.parameters(), ours.parameters(), strict=True):
            parameter.copy_(copied)
    return ours, plain


def mine(rows: torch.Tensor) -> torch.Tensor:
    return rows.chunk(WORLD)[dist.get_rank()]


@checks(
    *((model, options) for model in ("MLP", "LinearReLU") for options in OPTIONS),
    ("a part of it", "find_unused_parameters"),
    ("a part of it", "static_graph"),
)
def ddp_trains_like_one_process_with_the_whole_batch(model, options):
    ours, plain = make_pair(model)
    ours = DistributedDataParallel(ours, **OPTIONS[options])
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (ours, plain)]
    for _ in range(3):
        x, target = torch.randn(ROWS, 12, dtype=torch.float64), torch.randint(3, (ROWS,))
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.cross_entropy(ours(mine(x)), mine(target)).backward()
        nn.functional.cross_entropy(plain(x), target).backward()
        for got, want in zip(ours.parameters(), plain.parameters(), strict=True):
            assert (got.grad is None) == (want.grad is None)
            if want.grad is not None:
                assert_close(got.grad, want.grad)
        for optimizer in optimizers:
            optimizer.step()
        assert_close([*ours.parameters()], [*plain.parameters()])


@checks()
def ddp_runs_the_fused_operator():
    model = DistributedDataParallel(MLP(SIZES))
    assert model(torch.randn(ROWS, 12)).grad_fn.name() == "MlpBackward"


@checks(*((m, w, p) for m in ("MLP", "LinearReLU") for w in ("root", "all") for p in POLICIES))
def fully_shard_trains_like_the_plain_model(model, what, policy):
    ours, plain = make_pair(model, torch.float32)
    generator = torch.Generator().manual_seed(dist.get_rank())  # other rows in the other process
    x = torch.randint(-1, 2, (4, 12), generator=generator).float()
    grad = torch.randint(-1, 2, (4, 3), generator=generator).float()
    mixed = MixedPrecisionPolicy(param_dtype=POLICIES[policy])
    trained = []
    for network in (ours, plain):
        with torch.no_grad():  # whole numbers, so few that every sum is exact in every order
            for seed, parameter in enumerate(network.parameters()):
                few = integers(*parameter.shape, low=-1, high=1, seed=seed)
                few *= integers(*parameter.shape, low=0, high=1, seed=seed + 100)
                parameter.copy_(few)
        if what == "all":
            for linear in network.modules():
                if isinstance(linear, nn.Linear):
                    fully_shard(linear, mp_policy=mixed)
        fully_shard(network, mp_policy=mixed)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
        y = network(x)
        assert y.dtype == POLICIES[policy] or POLICIES[policy] is None
        y.backward(grad.to(y.dtype))
        grads = [parameter.grad.full_tensor() for parameter in network.parameters()]
        optimizer.step()
        parameters = [parameter.full_tensor().detach() for parameter in network.parameters()]
        trained.append([y.detach(), *grads, *parameters])
    assert max(tensor.abs().max().item() for tensor in trained[1]) < 256
    for got, want in zip(*trained, strict=True):
        assert_equal(got, want)


@checks()
def fully_shard_of_a_network_keeps_it_fused_and_of_its_children_does_not():
    model = fully_shard(MLP(SIZES))
    assert model(torch.randn(ROWS, 12)).grad_fn.name() == "MlpBackward"
    assert model.fallback_reason() is None  # although its weights lie in pieces again
    model = MLP(SIZES)
    fully_shard(model[2])
    assert model.fallback_reason() == "child 2 is a FSDPLinear, not a Linear"
    x = torch.randn(ROWS, 12)
    torch.testing.assert_close(model(x), nn.Sequential.forward(model, x))
