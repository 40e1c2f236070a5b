"""Members made by several processes: one that dies takes only itself along, and says so."""

from __future__ import annotations

import os

import pytest

from benchmark import registry
from benchmark.study import making
from benchmark.study.making import MadeMember, Making, Where
from benchmark.study.members import Member

DIES = "lovt-phantom"


def dying(member: Member) -> MadeMember | str:
    """In a worker: ends the process at one member, as the kernel does where memory runs out; makes nothing of the others."""
    if member.name == DIES:
        os._exit(9)
    where, said = making._of_worker
    said.put((member.label, where.threads))
    return MadeMember(member, {}, {}, [], was_there=False)


def test_a_fault_of_the_code_is_that_members_alone_and_quotes_no_data(members, tmp_path, monkeypatch):
    def faulty(member: Member, where: Where, told: object) -> MadeMember:
        if member.name == DIES:
            raise KeyError("p10000032")
        return MadeMember(member, {}, {}, [], was_there=False)

    monkeypatch.setattr(making, "one", faulty)
    found = making.make(members, Where(tmp_path, {}, tmp_path / "cache", 1, "cpu", ()), 1, lambda *told: None, lambda label, so_far: None)
    assert found.failed == {"lovt-phantom-0": "KeyError: message withheld, it may quote data that must not be passed on."}
    assert len(found.made) == 2


@pytest.fixture
def members() -> list[Member]:
    return [Member("method", registry.recipe(name), 0, (32,)) for name in ("convirt-phantom", DIES, "gloria-phantom")]


def test_a_member_whose_process_dies_stops_no_other(members, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "_in_worker", dying)
    heard: list[tuple[str, int]] = []
    ended: list[str] = []

    def end(label: str, so_far: Making) -> None:
        ended.append(label)
        assert label in so_far.made or label in so_far.failed

    found = making.make(members, Where(tmp_path, {}, tmp_path / "cache", 7, "cpu", ()), 2, lambda *told: heard.append(told), end)
    assert sorted(found.made) == ["convirt-phantom-0", "gloria-phantom-0"]
    assert list(found.failed) == ["lovt-phantom-0"]
    assert "its process was lost, as happens when memory runs out. Give fewer --workers" in found.failed["lovt-phantom-0"]
    assert sorted(ended) == ["convirt-phantom-0", "gloria-phantom-0", "lovt-phantom-0"]
    assert heard
    assert set(heard) <= {("convirt-phantom-0", 7), ("gloria-phantom-0", 7)}
