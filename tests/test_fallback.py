"""When MLP runs fused and when child by child: always right, and it says which."""

import pytest
import torch
from cases import hand_written_network
from tolerance import assert_same_bits
from torch import nn
from torch.nn.utils import prune

from pyfastnn import MLP

SIZES = [20, 33, 17, 5]


def spectral(model):
    torch.nn.utils.parametrizations.spectral_norm(model[0])


def old_weight_norm(model):
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.nn.utils.weight_norm(model[2])


def pruned(model):
    prune.l1_unstructured(model[2], "weight", amount=0.5)


def scale_output(model):
    model[1].register_forward_hook(lambda module, args, output: 2 * output)


def scale_input(model):
    model[2].register_forward_pre_hook(lambda module, args: 2 * args[0])


def scale_gradient(model):
    model[0].register_full_backward_hook(
        lambda module, grad_input, grad_output: (2 * grad_input[0],)
    )


def scale_gradient_before(model):
    model[2].register_full_backward_pre_hook(lambda module, grad_output: (2 * grad_output[0],))


def own_forward(model):
    linear = model[2]
    linear.forward = lambda input: nn.functional.linear(input, 2 * linear.weight, linear.bias)


def replace_by_tanh(model):
    model[1] = nn.Tanh()


def replace_by_subclass(model):
    class Scaled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model[0] = Scaled(20, 33)


def append_dropout(model):
    model.append(nn.Dropout(0.0))


def append_linear(model):
    model.append(nn.Linear(5, 5))


def remove_relu(model):
    del model[1]


def remove_first_linear(model):
    del model[0]


CHANGES = [
    (spectral, "child 0 is a ParametrizedLinear, not a Linear"),
    (old_weight_norm, "child 2 has a hook"),
    (pruned, "child 2 has a hook"),
    (scale_output, "child 1 has a hook"),
    (scale_input, "child 2 has a hook"),
    (scale_gradient, "child 0 has a hook"),
    (scale_gradient_before, "child 2 has a hook"),
    (own_forward, "child 2 has a forward of its own"),
    (replace_by_tanh, "child 1 is a Tanh, not a ReLU"),
    (replace_by_subclass, "child 0 is a Scaled, not a Linear"),
    (append_dropout, "child 5 is a Dropout, not a ReLU"),
    (append_linear, "child 5 is a Linear, not a ReLU"),
    (remove_relu, "child 1 is a Linear, not a ReLU"),
    (remove_first_linear, "child 0 is a ReLU, not a Linear"),
]


@pytest.mark.parametrize("change, reason", CHANGES, ids=lambda v: getattr(v, "__name__", ""))
def test_what_the_operator_cannot_do_runs_child_by_child_and_says_so(change, reason):
    torch.manual_seed(0)
    ours = MLP(SIZES)
    theirs = hand_written_network(SIZES)
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        torch.manual_seed(1)  # replaced children draw new values
        change(model)
    assert ours.fallback_reason() == reason
    x = torch.randn(9, next(m for m in ours if isinstance(m, nn.Linear)).in_features)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [model(leaf) for model, leaf in zip((ours, theirs), inputs, strict=True)]
    assert_same_bits(*[y.detach() for y in outputs])
    for y in outputs:
        y.square().sum().backward()
    assert_same_bits(inputs[0].grad, inputs[1].grad)
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same_bits(got.grad, want.grad)


def test_changes_that_keep_the_chain_stay_fused():
    model, x = MLP(SIZES), torch.randn(9, 20)
    model[0].requires_grad_(False)
    model[2] = nn.Linear(33, 17, bias=False)
    model.append(nn.ReLU())
    model.append(nn.Linear(5, 2))
    model.register_forward_hook(lambda module, args, output: 2 * output)  # on the whole: harmless
    assert model.fallback_reason() is None
    y = model(x)
    torch.testing.assert_close(y, 2 * nn.Sequential.forward(model, x))
    y.sum().backward()
    assert model[0].weight.grad is None and model[0].bias.grad is None
    assert model[2].weight.grad is not None and model[6].bias.grad is not None


def test_it_is_fused_again_when_the_reason_is_gone():
    model = MLP(SIZES)
    handle = model[1].register_forward_hook(lambda *_: None)
    assert model.fallback_reason() == "child 1 has a hook"
    handle.remove()
    assert model.fallback_reason() is None


def test_hooks_for_all_modules_run_on_the_children():
    model, seen = MLP(SIZES), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        assert model.fallback_reason() == "a hook is registered for all modules"
        model(torch.randn(9, 20))
    finally:
        handle.remove()
    assert seen == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear, MLP]


def test_a_network_without_children_is_the_identity():
    model, x = MLP([20, 5]), torch.randn(9, 20)
    del model[0]
    assert model.fallback_reason() == "there is no Linear layer"
    assert model(x) is x


def test_the_fused_path_is_one_operator():
    model, x = MLP(SIZES), torch.randn(9, 20)
    y = model(x)
    assert y.grad_fn.name() == "MlpBackward"
    model[0].register_forward_hook(lambda *_: None)
    assert model(x).grad_fn.name() == "AddmmBackward0"
