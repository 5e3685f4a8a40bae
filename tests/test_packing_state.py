import copy
import io
import pickle

import pytest
import torch
from torch import nn

import pyfastnn
from tests.cases import DTYPES
from tests.test_packing import mlp


def test_later_changes_of_the_model_have_no_effect_and_are_seen_if_asked():
    model = mlp([4, 3, 2])
    packed = pyfastnn.prepack(model)
    x = torch.randn(5, 4)
    before = packed(x)
    assert not packed.is_stale(model) and not packed.is_stale(copy.deepcopy(model))
    old = model[0].weight[1, 2].item()
    model[0].weight.data[1, 2] = old + 1  # leaves no trace in the version counter
    assert packed.is_stale(model)
    assert torch.equal(packed(x), before)
    model[0].weight.data[1, 2] = old
    assert not packed.is_stale(model)
    model[2].bias.data[0] += 1
    assert packed.is_stale(model)


@pytest.mark.parametrize(
    "other",
    [
        mlp([4, 3, 3]),
        mlp([4, 3, 2], activate_last=True),
        mlp([4, 3, 2], bias=False),
        mlp([4, 3, 2], torch.float64),
        mlp([4, 2]),
        nn.Sequential(nn.Flatten(), *mlp([4, 3, 2])),
    ],
    ids=["size", "relu", "bias", "dtype", "depth", "flatten"],
)
def test_another_model_is_stale(other):
    assert pyfastnn.prepack(mlp([4, 3, 2])).is_stale(other)


def test_nan_in_a_weight_is_not_a_change():
    model = mlp([4, 3])
    model[0].weight.data[0, 0] = torch.nan
    packed = pyfastnn.prepack(model)
    assert not packed.is_stale(model)
    assert packed(torch.ones(1, 4)).isnan().tolist() == [[True, False, False]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", pyfastnn.available_isas())
def test_copies_and_pickles_hold_plain_weights(isa, dtype):
    model = mlp([37, 21, 2], dtype, bias=False)
    with pyfastnn.force_isa(isa):
        packed = pyfastnn.prepack(model)
        x = torch.randn(3, 37).to(dtype)
        expected = packed(x)
        file = io.BytesIO()
        torch.save(packed.state_dict(), file)
        file.seek(0)
        loaded = pyfastnn.prepack(pyfastnn.MLP([37, 21, 2], bias=False, dtype=dtype))
        assert loaded.is_stale(model)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed), loaded):
            assert torch.equal(twin(x), expected)
            assert not twin.is_stale(model) and not twin.training
    # Loaded where another instruction set is in force, it is packed for that one.
    assert not pickle.loads(pickle.dumps(packed)).is_stale(model)


def test_the_state_of_another_network_is_refused():
    packed = pyfastnn.prepack(mlp([4, 3]))
    for other in (mlp([4, 2]), mlp([4, 3], torch.float64), mlp([4, 3, 3]), mlp([4, 3], bias=False)):
        with pytest.raises(RuntimeError, match="expected the state of a network like 4-3"):
            packed.load_state_dict(pyfastnn.prepack(other).state_dict())


def test_untouched_models_are_never_stale():
    empty = nn.Sequential(nn.Linear(3, 0), nn.ReLU(), nn.Linear(0, 2))
    negative = nn.Linear(3, 2)
    negative.weight.data = torch._neg_view(negative.weight.data)
    signalling = nn.Linear(3, 2, dtype=torch.bfloat16)
    signalling.weight.data.view(torch.int16)[0, 0] = 0x7F81
    for model in (empty, negative, signalling):
        for isa in pyfastnn.available_isas():
            with pyfastnn.force_isa(isa):
                assert not pyfastnn.prepack(model).is_stale(model)
    packed = pyfastnn.prepack(empty)
    assert packed.is_stale(empty.to("meta"))
