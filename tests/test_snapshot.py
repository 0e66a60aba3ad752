"""What mappings held: every difference shows, and only that."""

import torch
from torch import nn

from atofx.passes.snapshot import Snapshot
from atofx.passes.surroundings import ClassAttributes


def two() -> tuple[dict[str, object], dict[str, object], Snapshot]:
    first, second = {"a": 1, "b": torch.ones(2)}, {"c": "x"}
    return first, second, Snapshot([first, second])


def test_nothing_has_changed():
    first, second, snapshot = two()
    first["a"] = 1
    assert snapshot.changed() == []
    assert [live for live, _ in snapshot.pairs()] == [first, second]


def test_another_object_that_is_equal():
    first, _, snapshot = two()
    old = first["b"]
    first["b"] = torch.ones(2)
    ((live, held),) = snapshot.changed()
    assert live is first
    assert held["b"] is old


def test_an_entry_more_or_less():
    first, second, snapshot = two()
    second["d"] = None
    del first["a"]
    assert [list(held) for _, held in snapshot.changed()] == [["a", "b"], ["c"]]


def test_another_order():
    first, _, snapshot = two()
    first["a"] = first.pop("a")
    assert [list(held) for _, held in snapshot.changed()] == [["a", "b"]]


def test_an_entry_that_moves_to_the_next_mapping():
    first, second = {"a": 1, "b": 2}, {}
    snapshot = Snapshot([first, second])
    second["b"] = first.pop("b")
    assert [held for _, held in snapshot.changed()] == [{"a": 1, "b": 2}, {}]


def test_attributes_of_a_class():
    class Net(nn.Module):
        count = 0

    snapshot = Snapshot([ClassAttributes(Net)])
    assert snapshot.changed() == []
    Net.count = 1
    ((_, held),) = snapshot.changed()
    assert held["count"] == 0
