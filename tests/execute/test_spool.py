"""Finished work survives the driver: on the node that did it until a driver has stored it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.events import Finished
from benchmark.execute import nodes, spool
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import run_unit, units
from tests.full_disk import full_disk

LINEAR = "rsna-linear-frozen-100"
STORE = "0" * 32


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool" / STORE


@pytest.fixture
def unit(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    (made,) = units(jobs, places)
    return replace(made, store_id=STORE)


def finished(events) -> list[Finished]:
    return [e for e in events if isinstance(e, Finished)]


def test_a_record_waits_with_its_files_until_it_is_forgotten(unit, own_spool: Path):
    made = finished(run_unit(unit))
    keys = [e.record.key for e in made]
    kept = {record.key: (record, files) for record, files in spool.waiting(STORE, keys)}
    assert kept == {e.record.key: (e.record, e.files) for e in made}
    spool.forget(STORE, keys[:1])
    assert [record.key for record, _ in spool.waiting(STORE, keys)] == keys[1:]
    spool.forget(STORE, keys)
    assert not own_spool.exists()


def test_a_spool_is_for_its_owner_alone_and_used_where_groups_may_write(unit, own_spool: Path):
    before = os.umask(0o002)
    try:
        (first, _) = finished(run_unit(unit))
    finally:
        os.umask(before)
    assert [record.key for record, _ in spool.waiting(STORE, [first.record.key])] == [first.record.key]
    for folder in (own_spool.parent, own_spool, own_spool / first.record.key):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_next_driver_collects_what_a_killed_one_left_and_computes_the_rest(unit):
    driver = InlineExecutor().run(Schedule([unit], store_id=STORE))
    first = next(e for e in driver if isinstance(e, Finished))
    driver.close()  # killed with the first record in its hands: it was never stored
    computed = []
    events = InlineExecutor().run(Schedule([unit], store_id=STORE))
    for event in events:
        computed.append(type(event).__name__)
        if isinstance(event, Finished) and event.record.key == first.record.key:
            assert (event.record, event.files) == (first.record, first.files)
    assert computed.count("Started") == 1
    assert computed.count("Finished") == 2
    assert list(spool.waiting(STORE, [job.key for job in unit.jobs])) == []


def test_what_a_node_is_asked_for_and_told_is_its_spool(unit):
    (first, second) = finished(run_unit(unit))
    keys = [first.record.key, second.record.key]
    assert {record.key: record for record, _ in nodes.collect(STORE, keys)} == {e.record.key: e.record for e in (first, second)}
    nodes.forget(STORE, keys[:1])
    assert [record for record, _ in nodes.collect(STORE, keys)] == [second.record]


def test_a_record_that_an_earlier_driver_left_is_kept_once(unit, own_spool: Path):
    (first, _) = finished(run_unit(unit))
    files = {**first.files, "statistics.parquet": b"of this driver"}
    assert spool.keep(STORE, first.record, files)
    assert list(spool.waiting(STORE, [first.record.key])) == [(first.record, files)]
    assert sum(path.is_dir() for path in own_spool.iterdir()) == len(unit.jobs)


def test_a_full_disk_keeps_nothing_half_and_says_so(unit, own_spool: Path):
    (first, _) = finished(run_unit(unit))
    spool.forget(STORE, [first.record.key])
    with full_disk():
        assert not spool.keep(STORE, first.record, first.files)
    assert list(spool.waiting(STORE, [first.record.key])) == []
    assert not list(own_spool.glob(".making-*"))


def test_what_is_torn_or_foreign_is_computed_again(unit, own_spool: Path):
    (first, second) = finished(run_unit(unit))
    text = (own_spool / first.record.key / "record.json").read_text()
    (own_spool / first.record.key / "record.json").write_text(text[:-100])
    (own_spool / second.record.key).rename(own_spool / ("f" * 32))
    assert list(spool.waiting(STORE, [first.record.key, second.record.key, "f" * 32])) == []


def test_a_byte_that_changed_while_it_waited_is_computed_again(unit, own_spool: Path):
    (first, second) = finished(run_unit(unit))
    record, masks = own_spool / first.record.key / "record.json", own_spool / second.record.key / "files" / "masks.parquet"
    record.write_text(record.read_text().replace('"phantom":true', '"phantom":false'))
    masks.write_bytes(masks.read_bytes()[:-1] + b" ")
    assert list(spool.waiting(STORE, [first.record.key, second.record.key])) == []


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder away")
def test_a_spool_of_somebody_else_is_neither_read_nor_written(unit, own_spool: Path):
    (event, *_) = finished(run_unit(unit))
    os.chown(own_spool.parent, 12345, 12345)
    assert list(spool.waiting(STORE, [event.record.key])) == []
    assert not spool.keep(STORE, event.record, event.files)


def test_a_node_without_room_keeps_nothing_and_the_record_still_arrives(unit, tmp_path: Path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "a file" / "below"))
    assert [e.record.status for e in finished(run_unit(unit))] == ["ok", "ok"]
