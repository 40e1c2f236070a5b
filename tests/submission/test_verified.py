"""Stored numbers are computed again before they are shown, once for each state of a record."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import contents, processes
from benchmark.cards import Record
from benchmark.errors import StoreError
from benchmark.integrity import sealed
from benchmark.kinds.kit.stored import STATISTICS_FILE, STATISTICS_FILES, told_of, write_statistics
from benchmark.metrics.label_statistics import MeanStatistics
from benchmark.record_index import INDEX
from benchmark.shelf import Check, Shelf, read_record
from benchmark.submission.score import _require_as_recorded
from benchmark.submission.verified import STATISTICS, _counted, fault_in, fault_of_metrics, statistics_of


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


def test_statistics_of_another_ground_truth_hold_no_metric(out: Path) -> None:
    """Means of made-up values under a detector's metric, or counts of masks."""
    records = Shelf(out).believable()[0]
    boxes = next(one for one in records if one.job.experiment.dataset.target == "boxes")
    masks = next(one for one in records if one.job.experiment.dataset.target == "masks")
    n = statistics_of(boxes, out).statistics.n_images
    made_up = MeanStatistics(("mAP",), np.arange(n), np.full((n, 1), 0.99), n)
    edited = boxes.model_copy(update={"metrics": {"mAP": 0.99}})
    assert fault_of_metrics(edited, made_up) == "its statistics are of the kind means, which are none of boxes"
    of_masks = statistics_of(masks, out).statistics
    assert fault_of_metrics(boxes, of_masks) == "its statistics are of the kind segmentation, which are none of boxes"


def asked(out: Path, report: str, metrics: dict[str, float], **labels) -> Record:
    """A record of retrieval, whose metrics are means of stored values."""
    record = Shelf(out).believable()[0][0]
    dataset = record.job.experiment.dataset.model_copy(update={"target": "reports"})
    experiment = record.job.experiment.model_copy(update={"dataset": dataset, "report": report})
    job = record.job.model_copy(update={"experiment": experiment, "labels": record.job.labels.model_copy(update=labels)})
    return record.model_copy(update={"job": job, "metrics": metrics})


def test_a_reported_metric_that_statistics_do_not_give_is_a_fault(out: Path) -> None:
    kept = MeanStatistics(("image_to_text_mrr",), np.arange(2), np.array([[0.5], [1.0]]), 2)
    metrics = {"image_to_text_hit@5": 0.99, "image_to_text_mrr": 0.75, "duplicate_rate": 0.1}
    sentence = "it has image_to_text_hit@5, which its statistics do not give"
    assert fault_of_metrics(asked(out, "image_to_text_hit@5", metrics), kept) == sentence
    assert fault_of_metrics(asked(out, "image_to_text_mrr", metrics), kept) == ""
    assert fault_of_metrics(asked(out, "image_to_text_hit@5", metrics, custom=("task",)), kept) == ""


def test_a_score_of_calling_everything_positive_is_held_to_the_statistics(out: Path) -> None:
    record = next(one for one in Shelf(out).believable()[0] if one.job.experiment.dataset.target == "masks")
    statistics = statistics_of(record, out).statistics
    n_true, n_pixels = (statistics.counts.tp + statistics.counts.fn).sum(axis=0), statistics.n_images * statistics.frame_pixels
    honest = {f"{name}_dice": 2 * n / (n + n_pixels) for name, n in zip(statistics.class_names, n_true, strict=True)}
    oracle = {"grid oracle 7 x 7": dict.fromkeys(honest, 0.9)}
    assert fault_in(record.model_copy(update={"anchors": {"all positive": honest, **oracle}}), out) == ""
    edited = {name: value / 2 for name, value in honest.items()}
    said = fault_in(record.model_copy(update={"anchors": {"all positive": edited}}), out)
    assert re.fullmatch(r"its \w+_dice of all positive is 0\.\d+, and its statistics give 0\.\d+", said)


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
