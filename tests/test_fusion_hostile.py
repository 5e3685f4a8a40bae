"""Forwards and changes that defeat a naive trace: the fused model does what the plain one does."""

import collections
import copy
import dataclasses
import functools
import operator

import fusion_models as models
import pytest
import torch
from torch.nn import functional as F

import pyfastnn

X = (torch.arange(12.0).reshape(3, 4) / 7 - 0.5).double()
Pair = collections.namedtuple("Pair", "x mask")


class Held:
    def __init__(self, x):
        self.x = x


@dataclasses.dataclass
class Output:
    y: object

    def __post_init__(self):
        self.y = self.y * 2


class Settings:
    scale = 1.0


def layer(self, x):
    return F.relu(self.layers[0](x))


def augmented(self, x):
    h = layer(self, x)
    view = h[:, :2]
    h *= 2
    return view


def augments_its_input(self, x):
    x += layer(self, x)
    return x * 2


def sets_an_attribute_of_an_argument(self, held):
    held.x = layer(self, held.x)
    return held.x * 2


def sets_data(self, x):
    self.layers[0].weight.data = self.layers[0].weight.data * 0.5
    return layer(self, x)


def asks_for_a_text(self, x):
    return layer(self, x) * (2 if str(x.dtype) == "torch.float64" else 1)


def formats(self, x):
    return layer(self, x) * (2 if f"{x.dim()}" == "2" else 1)


def asks_for_a_hash(self, x):
    return layer(self, x) * (2 if x.dtype in {torch.float64} else 1)


def asks_whether_it_is_callable(self, x):
    return layer(self, x) * (2 if callable(x) else 1)


def asks_for_none_of_a_result(self, x):
    h = layer(self, x)
    return h * 2 if h.grad_fn is not None else h


def asks_by_operator(self, x):
    return layer(self, x) * (2 if operator.is_(x.grad, None) else 1)


def takes_a_pair(self, pair):
    h = layer(self, pair.x)
    return h if pair.mask is None else h * pair.mask


def helper(h, mask):
    return h if mask is None else h * mask


def asks_in_a_helper(self, x):
    return helper(layer(self, x), layer(self, x))


def unpacks(self, x):
    rows, columns = x.shape
    return layer(self, x) * rows / columns


def loops_over_values(self, x):
    return sum(layer(self, row) for row in x)


def returns_an_object(self, x):
    return Output(layer(self, x)).y


def returns_a_pair(self, x):
    return Pair(layer(self, x), None)


def counts_in_the_class(self, x):
    Settings.calls = getattr(Settings, "calls", 0) + 1
    return layer(self, x) * (1 + Settings.calls % 2)


def logs_in_a_default(self, x, log=[]):  # noqa: B006
    log.append(1)
    return layer(self, x) * len(log)


@functools.lru_cache(None)
def cached_mask(n):
    return torch.tril(torch.ones(n, n, dtype=torch.float64))


def uses_a_cache(self, x):
    return layer(self, x) @ cached_mask(4)


def calls_itself(self, x, again=True):
    h = layer(self, x)
    return self(h, again=False) if again else h


def copies(self, x):
    return layer(self, copy.copy(x))


def changes_a_weight_in_between(self, x):
    z = self.layers[0](x)
    self.layers[1].weight.data.mul_(0.5)
    return self.layers[1](z.relu())


def matches(self, x):
    match x:
        case [first, *_]:
            return layer(self, first)
        case _:
            return layer(self, x)


FORWARDS = [
    augmented,
    augments_its_input,
    sets_data,
    asks_for_a_text,
    formats,
    asks_for_a_hash,
    asks_whether_it_is_callable,
    asks_for_none_of_a_result,
    asks_by_operator,
    asks_in_a_helper,
    unpacks,
    loops_over_values,
    returns_an_object,
    returns_a_pair,
    uses_a_cache,
    calls_itself,
    copies,
    changes_a_weight_in_between,
    matches,
]


def both(forward, **attributes):
    """A plain model and a fused one, with states of their own."""
    cls = type("Model", (models.Base,), {"forward": forward, **attributes})
    plain, other = cls().double(), cls().double()
    return plain, pyfastnn.fuse(other, inplace=True)


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda f: f.__name__)
def test_the_forward_does_what_it_does(forward):
    plain, fused = both(forward)
    for _ in range(2):
        inputs = [X.clone(), X.clone()]
        with torch.no_grad():
            want, got = plain(inputs[0]), fused(inputs[1])
        assert type(got) is type(want)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        assert torch.equal(*inputs) or forward is augments_its_input
        torch.testing.assert_close(*inputs)
        torch.testing.assert_close(fused(X.clone()), plain(X.clone()), rtol=1e-12, atol=1e-12)


def test_arguments_that_are_objects():
    plain, fused = both(sets_an_attribute_of_an_argument)
    mine, theirs = Held(X), Held(X)
    torch.testing.assert_close(fused(mine), plain(theirs))
    torch.testing.assert_close(mine.x, theirs.x)
    plain, fused = both(takes_a_pair)
    for pair in (Pair(X, None), Pair(X, X)):
        torch.testing.assert_close(fused(pair), plain(pair))


def test_a_wrong_number_of_values_to_unpack_raises():
    _, fused = both(unpacks)
    fused(X)
    with pytest.raises(ValueError, match="too many values to unpack"):
        fused(X.reshape(3, 1, 4))


@pytest.mark.parametrize("forward", [counts_in_the_class, logs_in_a_default])
def test_side_effects_happen_at_every_call(forward):
    _, fused = both(forward)
    first, second = fused(X), fused(X)
    assert not torch.equal(first, second)


def test_a_cache_of_the_user_holds_no_stand_ins():
    both(uses_a_cache)
    assert isinstance(cached_mask(4), torch.Tensor)
