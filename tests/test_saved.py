"""The graph that a forward leaves behind: hooks, checkpoints, changes in place, threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from functions import assert_close
from models import PAIRS, gradients
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts


@PAIRS
def test_saved_tensor_hooks_see_every_saved_tensor_and_may_replace_it(make_pair):
    ours, theirs, x = make_pair()
    packed, unpacked = [], []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.numpy(force=True).copy()

    def unpack(array):
        unpacked.append(array.shape)
        return torch.from_numpy(array)

    with saved_tensors_hooks(pack, unpack):
        y = ours(x)
    y.square().sum().backward()
    got = [p.grad for p in ours.parameters()]
    assert_close(got, gradients(theirs, x)[1:])
    assert {(9, 5), tuple(y.shape)} <= {tuple(shape) for shape in packed} | {(9, 3)}
    assert unpacked


@pytest.mark.parametrize("use_reentrant", [False, True])
@PAIRS
def test_checkpoints_give_the_same_gradients(make_pair, use_reentrant):
    ours, theirs, x = make_pair()

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = ours

        def forward(self, x):
            return checkpoint(self.model, x, use_reentrant=use_reentrant)

    assert_close(gradients(Checkpointed(), x), gradients(theirs, x))


@PAIRS
def test_save_on_cpu_gives_the_same_gradients(make_pair):
    ours, theirs, x = make_pair()
    with save_on_cpu():
        got = gradients(ours, x)
    assert_close(got, gradients(theirs, x))


@PAIRS
def test_anomaly_mode_names_the_forward_call_of_a_nan(make_pair):
    ours, theirs, x = make_pair()
    with torch.autograd.detect_anomaly(check_nan=True), pytest.warns(UserWarning):
        assert_close(gradients(ours, x), gradients(theirs, x))
        y = ours(x)
        with pytest.raises(RuntimeError, match=f"'{y.grad_fn.name()}' returned nan values"):
            y.backward(torch.full_like(y, float("nan")))


@PAIRS
def test_a_graph_can_be_kept_and_is_freed_otherwise(make_pair):
    ours, theirs, x = make_pair()
    for model in (ours, theirs):
        loss = model(x).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()
    assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


def outcome(model: nn.Module, x: Tensor, change, frozen: Sequence[str]) -> str | list[Tensor]:
    """Gradients after a change between forward and backward, or that it was refused."""
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    loss = model(x).square().sum()
    with torch.no_grad():
        change(model, x)
    try:
        loss.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return "refused"
    return [p.grad for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    "input_requires_grad, frozen", [(False, 0), (False, 1), (True, 0), (True, 1), (True, 6)]
)
@PAIRS
def test_a_change_in_place_is_noticed_where_torch_notices_it(
    make_pair, input_requires_grad, frozen
):
    names = [name for name, _ in make_pair().ours.named_parameters()]
    frozen = names[:frozen]
    changes = [lambda model, x: x.mul_(2)]
    changes += [lambda model, x, name=name: model.get_parameter(name).mul_(2) for name in names]
    for change in changes:
        results = []
        for side in (0, 1):
            pair = make_pair()
            x = pair.x.requires_grad_(input_requires_grad)
            results.append(outcome(pair[side], x, change, frozen))
        assert type(results[0]) is type(results[1])
        if isinstance(results[0], list):
            assert_close(*results)


@PAIRS
def test_changes_in_place_are_survived_where_torch_keeps_copies(make_pair):
    ours, theirs, x = make_pair()
    for model in (ours, theirs):
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            loss = model(x).square().sum()
            with torch.no_grad():
                for tensor in model.parameters():
                    tensor.mul_(2)
            loss.backward()
    assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


@PAIRS
def test_selective_checkpoints_may_keep_our_operators(make_pair):
    ours, theirs, x = make_pair()
    kept = [torch.ops.pyfastnn.mlp_forward.default, torch.ops.pyfastnn.linear_relu.default]
    calls = partial(create_selective_checkpoint_contexts, kept)
    checkpoint(ours, x, use_reentrant=False, context_fn=calls).square().sum().backward()
    assert_close([p.grad for p in ours.parameters()], gradients(theirs, x)[1:])


@PAIRS
def test_nodes_have_edges_and_hooks(make_pair):
    ours, theirs, x = make_pair()
    parameters, seen = list(ours.parameters()), []
    y = ours(x)
    edge = torch.autograd.graph.get_gradient_edge(y)
    want = torch.autograd.grad(theirs(x).sum(), theirs.parameters())
    ones = torch.ones_like(y)
    assert_close(torch.autograd.grad(edge, parameters, ones, retain_graph=True), want)
    y.grad_fn.register_prehook(lambda grads: (2 * grads[0],))
    y.grad_fn.register_hook(lambda grad_inputs, grad_outputs: seen.append(grad_outputs))
    torch.autograd.graph.register_multi_grad_hook(parameters, seen.append)
    y.sum().backward()
    assert_close([p.grad for p in parameters], [2 * grad for grad in want])
    assert_close(seen[0], (2 * ones,))
    assert len(seen[1]) == len(parameters)


@PAIRS
def test_backward_from_several_threads_at_once(make_pair):
    ours, theirs, x = make_pair()
    losses = [ours(x).square().sum() for _ in range(8)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        grads = list(pool.map(lambda loss: torch.autograd.grad(loss, ours.parameters()), losses))
    want = gradients(theirs, x)[1:]
    for got in grads:
        assert_close(list(got), want)


@PAIRS
def test_the_number_of_threads_may_change_between_forward_and_backward(make_pair, threads):
    ours, theirs, x = make_pair()
    torch.set_num_threads(2)
    y = ours(x)
    torch.set_num_threads(1)
    y.square().sum().backward()
    torch.set_num_threads(2)
    ours(x)
    assert_close([p.grad for p in ours.parameters()], gradients(theirs, x)[1:])
