"""Stored numbers are computed again before they are shown, once for each state of a record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import contents, processes
from benchmark.errors import StoreError
from benchmark.integrity import sealed
from benchmark.kinds.kit.stored import STATISTICS_FILE, STATISTICS_FILES, told_of, write_statistics
from benchmark.record_index import INDEX
from benchmark.shelf import Check, Shelf, read_record
from benchmark.submission.score import _require_as_recorded
from benchmark.submission.verified import STATISTICS, _counted, fault_in, statistics_of


@pytest.fixture
def looked_at(out: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads a store as a report does; gives keys of the records that were looked at, and of those that were refused."""
    monkeypatch.setattr(contents, "RECENT_NS", 0)  # so that what was read is indexed at once

    def call(name: str = STATISTICS.name) -> tuple[set[str], list[str]]:
        seen: set[str] = set()

        def fault_of(record, folder: Path) -> str:
            seen.add(record.key)
            return STATISTICS.fault_of(record, folder)

        records, refused = Shelf(out).believable(STATISTICS_FILES, Check(name, fault_of))
        assert len(records) + len(refused) == 8
        return seen, [one.key for one in refused]

    return call


def test_a_second_report_computes_nothing_again(looked_at, out: Path) -> None:
    assert [len(looked_at()[0]), len(looked_at()[0])] == [8, 0]
    (out / INDEX).unlink()
    assert len(looked_at()[0]) == 8


def test_several_processes_believe_and_refuse_what_one_does(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sorted((out / "records").iterdir())[1]
    record = read_record(path)
    forged = record.model_copy(update={"metrics": {name: value / 2 + 0.01 for name, value in record.metrics.items()}})
    path.write_text(sealed(forged).model_dump_json())
    alone = Shelf(out).believable(STATISTICS_FILES, STATISTICS)
    (out / INDEX).unlink(missing_ok=True)
    monkeypatch.setattr(processes, "LEAST", 1)
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)
    assert Shelf(out).believable(STATISTICS_FILES, STATISTICS) == alone
    assert [one.key for one in alone[1]] == [record.key]


def test_what_an_index_remembers_is_of_its_own_folder(looked_at, out: Path, tmp_path: Path) -> None:
    """A folder of somebody else may bring an index that says that all is well."""
    looked_at()
    shutil.move(out, tmp_path / "theirs")
    shutil.copytree(tmp_path / "theirs", out)
    assert (out / INDEX).is_file()
    assert len(looked_at()[0]) == 8


def test_rules_of_another_name_look_at_every_record_again(looked_at) -> None:
    looked_at()
    assert len(looked_at("statistics, another rule")[0]) == 8


def test_a_record_that_changed_is_looked_at_again_with_any_checksum(looked_at, out: Path) -> None:
    looked_at()
    path = sorted((out / "records").glob("*.json"))[0]
    record = read_record(path)
    path.write_text(sealed(record.model_copy(update={"metrics": dict.fromkeys(record.metrics, 0.5)})).model_dump_json())
    assert looked_at() == ({record.key}, [record.key])
    assert looked_at() == ({record.key}, [record.key]), "what is refused is not remembered as good"
    path.write_text(record.model_dump_json())
    assert looked_at() == ({record.key}, [])
    assert looked_at() == (set(), [])


def test_statistics_that_changed_are_refused_although_their_record_was_looked_at(looked_at, out: Path) -> None:
    looked_at()
    one, other = sorted(out.glob("predictions/*/statistics.parquet"))[:2]
    shutil.copy(other, one)
    assert looked_at() == (set(), [one.parent.name])


def test_a_record_without_statistics_says_nothing_that_could_be_computed(out: Path) -> None:
    path = sorted((out / "records").glob("*.json"))[0]
    record = read_record(path)
    shutil.rmtree(out / "predictions" / record.key)
    assert fault_in(record, out) == ""
    assert fault_in(record.model_copy(update={"status": "failed"}), out) == ""


def test_damaged_statistics_with_a_digest_of_their_own_are_a_sentence(out: Path) -> None:
    path = sorted((out / "records").glob("*.json"))[0]
    record = read_record(path)
    name = f"predictions/{record.key}/statistics.parquet"
    (out / name).write_bytes(b"PAR1 nothing")
    from benchmark.integrity import bytes_digest

    again = sealed(record.model_copy(update={"file_digests": record.file_digests | {name: bytes_digest(b"PAR1 nothing")}}))
    assert "is no statistics file" in STATISTICS.fault_of(again, out)


def test_statistics_that_name_an_image_twice_are_a_fault(out: Path) -> None:
    record = Shelf(out).believable()[0][0]
    found = statistics_of(record, out)
    twice = replace(found, ids=(found.ids[0], *found.ids[:-1]))
    write_statistics(out / "predictions" / record.key / STATISTICS_FILE, twice, {"key": record.key, "task": record.job.labels.task})
    again = record.model_copy(update={"file_digests": {}})
    assert fault_in(again, out) == "its statistics name an image twice"


def test_of_masks_scored_in_original_pixels_no_count_of_the_frame_is_held_to_anything(out: Path) -> None:
    record = next(one for one in Shelf(out).believable()[0] if one.job.experiment.dataset.target == "masks")
    found = statistics_of(record, out).statistics
    assert _counted(found, in_frame=True)["positives"] > 0
    assert _counted(found, in_frame=False) == {}


def test_of_restricted_data_a_sentence_on_a_file_names_no_image(out: Path) -> None:
    record = next(one for one in Shelf(out).believable()[0] if one.job.experiment.dataset.target == "masks")
    name = statistics_of(record, out).ids[0]
    sentence = f"the mask of image {name} is none"
    assert told_of(record, sentence, out) == sentence
    hidden = told_of(record.model_copy(update={"redistribution": "none"}), sentence, out)
    assert (name in hidden, "withheld" in hidden) == (False, True)


def test_a_file_beside_a_record_that_cannot_be_read_is_held_to_nothing(out: Path) -> None:
    record = next(one for one in Shelf(out).believable()[0] if one.job.experiment.dataset.target == "masks")
    file = out / "predictions" / record.key / "masks.parquet"
    file.write_bytes(b"PAR1 of another")
    with pytest.raises(StoreError, match="is not the file that was stored"):
        _require_as_recorded(file)
    (out / "records" / f"{record.key}.json").write_text("{")
    _require_as_recorded(file)
