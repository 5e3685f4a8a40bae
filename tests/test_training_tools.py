"""What people build training from, around our modules and around plain ones: the same numbers."""

import copy
from collections.abc import Callable

import pytest
import torch
from functions import assert_close
from models import PAIRS, Pair, networks
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int = 3) -> Tensor:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
    return loss.detach()


def compare(pair: Pair, use: Callable[[nn.Module, Tensor], list[Tensor]]) -> None:
    assert_close(use(pair.ours, pair.x), use(pair.theirs, pair.x))


def state(model: nn.Module) -> list[Tensor]:
    return [value.detach() for value in model.state_dict().values()]


@PAIRS
def test_a_copied_model_and_optimizer_go_on_training(make_pair):
    def use(model, x):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        train(model, optimizer, x)
        twin, twin_optimizer = copy.deepcopy((model, optimizer))
        train(twin, twin_optimizer, x)
        fresh = torch.optim.Adam(model.parameters(), lr=0.01)
        fresh.load_state_dict(optimizer.state_dict())
        train(model, fresh, x)
        assert_close(state(twin), state(model))
        return [*state(twin), model(x)]

    compare(make_pair(), use)


@pytest.mark.parametrize("options", [dict(), dict(multi_avg_fn=get_ema_multi_avg_fn(0.9))])
@PAIRS
def test_averaged_models(make_pair, options):
    def use(model, x):
        averaged = AveragedModel(model, **options)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        schedule = SWALR(optimizer, swa_lr=0.01, anneal_epochs=2)
        for _ in range(4):
            train(model, optimizer, x, steps=1)
            averaged.update_parameters(model)
            schedule.step()
        update_bn([x], averaged)
        assert type(averaged.module) is type(model)
        return [*state(averaged), averaged(x), model(x)]

    compare(make_pair(), use)


@PAIRS
def test_pruned_models_train_and_stay_sparse(make_pair):
    def use(model, x):
        layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
        prune.l1_unstructured(layer, "weight", amount=10)
        train(model, torch.optim.SGD(model.parameters(), lr=0.05), x)
        assert (layer.weight == 0).sum() == 10
        before = model(x)
        prune.remove(layer, "weight")
        return [before, model(x), *state(model)]

    compare(make_pair(), use)


def test_a_pruned_network_is_fused_again_when_the_pruning_is_permanent():
    model = networks().ours
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    assert model.fallback_reason() == "child 0 has a hook"
    prune.remove(model[0], "weight")
    assert model.fallback_reason() is None


@pytest.mark.parametrize("optimizer", ["LBFGS", "Rprop", "Adagrad", "RMSprop", "NAdam"])
def test_other_optimizers_work(optimizer):
    def use(model, x):
        chosen = getattr(torch.optim, optimizer)(model.parameters(), lr=0.01)

        def closure():
            chosen.zero_grad()
            loss = (model(x) - 1).square().mean()
            loss.backward()
            return loss

        losses = [chosen.step(closure).detach() for _ in range(3)]
        return [*losses, *state(model)]

    compare(networks(), use)


@PAIRS
def test_gradients_can_be_clipped_accumulated_and_hooked(make_pair):
    def use(model, x):
        seen = []
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm()))
        for part in x.split(4):
            (model(part) - 1).square().sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        assert len(seen) == 3 * len(list(model.parameters()))
        return [norm, *(p.grad for p in model.parameters()), *sorted(seen)]

    compare(make_pair(), use)


@PAIRS
def test_functional_optimizers_and_parameter_vectors(make_pair):
    def use(model, x):
        vector = nn.utils.parameters_to_vector(model.parameters()).detach()
        nn.utils.vector_to_parameters(vector / 2, model.parameters())
        return [model(x), *torch.autograd.grad(model(x).sum(), list(model.parameters()))]

    compare(make_pair(), use)
