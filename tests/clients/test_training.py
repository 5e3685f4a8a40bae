"""Unchanged training code, fused by one line: the same curve, by fused operators."""

import functools

import torch
from curves import curve, rounding_bound
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import pyfastnn
from benchmarks.clients import Client
from benchmarks.clients.run import Run

FUSED_OPERATORS = {"pyfastnn::mlp", "pyfastnn::linear_relu"}


def operators_of(run: Run) -> set[str]:
    run.learn(1)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run.learn(1)
    return {event.key for event in recorded.key_averages()}


@functools.cache
def plain_curve(client: Client) -> Tensor:
    return curve(client, fused=False)


@functools.cache
def bound_of(client: Client) -> Tensor:
    return rounding_bound(client, plain_curve(client))


def test_fused_training_has_the_curve_of_plain_pytorch(client: Client):
    plain, bound = plain_curve(client), bound_of(client)
    assert plain.isfinite().all() and plain.unique().numel() > 20
    assert bound.max() < 1e-3 * plain.abs().max(), "rounding has grown too far to compare anything"
    fused = curve(client, fused=True)
    assert fused.shape == plain.shape
    worst = ((fused - plain).abs() - bound).argmax()
    assert abs(fused[worst] - plain[worst]) <= bound[worst], f"loss {worst} of {len(plain)}"


def test_plain_training_has_the_same_bits_again(client: Client):
    assert torch.equal(curve(client, fused=False), plain_curve(client))


def test_the_comparison_sees_weights_that_are_wrong_by_a_thousandth(client: Client):
    def changed(fused: bool) -> Run:
        run = client.make(fused)
        with torch.no_grad():
            for parameter in run.module.parameters():
                parameter.mul_(1.001)
        return run

    other = curve(client._replace(make=changed), fused=False)
    assert ((other - plain_curve(client)).abs() > bound_of(client)).any()


def test_training_runs_the_fused_operators_and_no_relu_beside_them(client: Client):
    plain, fused = operators_of(client.make(False)), operators_of(client.make(True))
    assert "aten::relu" in plain and not plain & FUSED_OPERATORS
    assert fused & FUSED_OPERATORS
    assert ("aten::relu" in fused) == bool(client.relu_stays)


def test_the_report_says_what_was_fused(client: Client):
    report = pyfastnn.fusion_report(client.make(True).module)
    assert report.fused and "fused:" in str(report)
    assert not pyfastnn.fusion_report(client.make(False).module).fused


def test_fusing_keeps_classes_names_and_parameters(client: Client):
    plain, fused = client.make(False).module, client.make(True).module
    for (name, module), (name_then, before) in zip(
        fused.named_modules(), plain.named_modules(), strict=True
    ):
        assert name == name_then and isinstance(module, type(before))
    state, before = fused.state_dict(), plain.state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_unfused_again_it_trains_as_plain_pytorch_to_the_bit(client: Client):
    def unfused(fused: bool) -> Run:
        run = client.make(True)
        pyfastnn.unfuse(run.module, inplace=True)
        return run

    client = client._replace(compared=3)
    assert torch.equal(curve(client._replace(make=unfused), False), curve(client, False))
