from collections import OrderedDict, defaultdict

import pytest
import torch

from pyfastnn import _C
from pyfastnn._watch import Watch


@pytest.mark.parametrize("make", [dict, OrderedDict, lambda items: defaultdict(list, items)])
def test_every_change_of_a_dict_is_noticed(make):
    changes = {
        "put": lambda d: d.update(c=3.5),
        "take": lambda d: d.pop("a"),
        "replace": lambda d: d.update(a=1.5 + len(d)),
        "swap": lambda d: d.update(a=d["b"], b=d["a"]),
        "rename": lambda d: d.update(c=d.pop("b")),
        "clear": lambda d: d.clear(),
    }
    for name, change in changes.items():
        watched = make({"a": 1.5, "b": 2.5})
        watch = Watch([{}, watched])
        assert watch.holds() and watch.holds()
        change(watched)
        assert not watch.holds(), name


def test_every_change_of_a_list_is_noticed():
    for change in (
        list.clear,
        list.reverse,
        list.pop,
        lambda x: x.append(1),
        lambda x: x.insert(0, 1),
    ):
        watched = [[], {}]
        watch = Watch([], [[], watched])
        assert watch.holds()
        change(watched)
        assert not watch.holds()


def test_frozen_and_thawed_tensors_are_noticed():
    tensor = torch.zeros(2)
    watch = Watch([], [], [torch.zeros(1), tensor])
    assert watch.holds()
    tensor.requires_grad_()
    assert not watch.holds()


def test_an_equal_object_in_place_of_another_is_noticed():
    # The old one must not be freed meanwhile, or the new one could get its address.
    watched = {"a": [0]}
    watch = Watch([watched])
    for _ in range(100):
        del watched["a"]
        watched["a"] = [0]
        assert not watch.holds()


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="Snapshot: expected a dict, got list"):
        _C.Snapshot([[]], [], [])
    with pytest.raises(TypeError, match="Snapshot: expected a list, got dict"):
        _C.Snapshot([], [{}], [])
    with pytest.raises(TypeError, match="Snapshot: expected a tensor, got int"):
        _C.Snapshot([], [], [1])
