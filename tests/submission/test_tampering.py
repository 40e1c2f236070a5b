"""Results edited by a forger who counts every checksum anew: what their content gives away, what only scoring or training again does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics.statistics import pooled_metrics
from benchmark.shelf import Shelf
from benchmark.submission.manifest import Manifest
from benchmark.submission.validate import Validated, validate
from benchmark.submission.verified import STATISTICS
from tests.submission.conftest import BOXES, MASKS
from tests.submission.forging import Files, edit_statistics, packed, put, records_of, statistics_in

Edit = Callable[[Files, dict[str, Any]], None]


@pytest.fixture
def judged(honest: tuple[Files, Manifest], tmp_path: Path):
    """Validates a copy of the packed store in which one record was edited."""

    def call(edit: Edit, task: str = MASKS, *, every: bool = False, allow_phantom: bool = True, **more: Any) -> Validated:
        files, manifest = honest
        for raw in records_of(files) if every else records_of(files, task)[:1]:
            edit(files, raw)
        forged = packed(files, manifest.model_copy(update={"phantom": allow_phantom}), tmp_path / "forged.zip")
        return validate(forged, allow_phantom=allow_phantom, **more)

    return call


def setting(path: str, value: Any) -> Edit:
    """Sets one value of a record, named by its keys."""

    def edit(files: Files, raw: dict[str, Any]) -> None:
        *folders, last = path.split(".")
        at = raw
        for name in folders:
            at = at[name]
        at[last] = value(at.get(last)) if callable(value) else value
        put(files, raw)

    return edit


def test_a_record_that_nobody_edited_is_valid(judged) -> None:
    assert judged(setting("finished_at", "2026-02-02T00:00:00+0000")).faults == ()


@pytest.mark.parametrize(
    ("task", "metric", "sentence"),
    [
        (MASKS, "opacity_dice", r"its opacity_dice is 0\.99, and its statistics give 0\."),
        (BOXES, "AP40_75_full", r"its AP40_75_full is 0\.99, and its statistics give 0\."),
        (BOXES, "mAP", r"its mAP is 0\.99"),
        (MASKS, "mAP", "it has mAP, which its statistics do not give"),
    ],
)
def test_an_edited_metric_is_refused(judged, task: str, metric: str, sentence: str) -> None:
    found = judged(setting(f"metrics.{metric}", 0.99), task)
    assert len(found.faults) == 1
    _require(sentence, found.faults)


def test_edited_statistics_are_refused(judged) -> None:
    def better(found: ByImage) -> ByImage:
        counts = found.statistics.counts
        return replace(found, statistics=replace(found.statistics, counts=replace(counts, fp=counts.fp // 2)))

    def edit(files: Files, raw: dict[str, Any]) -> None:
        edit_statistics(files, raw, better)
        put(files, raw)

    _require("and its statistics give", judged(edit).faults)


def test_statistics_of_another_record_are_refused(judged) -> None:
    def edit(files: Files, raw: dict[str, Any]) -> None:
        other = next(each for each in records_of(files, MASKS) if each["key"] != raw["key"])
        files[f"predictions/{raw['key']}/statistics.parquet"] = files[f"predictions/{other['key']}/statistics.parquet"]
        put(files, raw)

    _require("and its statistics give", judged(edit).faults)


def test_generated_data_called_real_is_refused(judged) -> None:
    found = judged(setting("phantom", False), every=True, allow_phantom=False)
    _require("its train images are not those of the public release of covid-rural: generated data", found.faults)
    assert len(found.faults) == 4


def test_a_manifest_alone_makes_no_data_real(judged) -> None:
    _require("generated data, and its manifest says otherwise", judged(setting("steps", 1), allow_phantom=False).faults)


def test_a_milder_contamination_than_is_known_is_refused(judged) -> None:
    def edit(files: Files, raw: dict[str, Any]) -> None:
        for each in records_of(files, MASKS):
            if each["job"]["labels"]["backbone"] == "resnet18 (mine.pt)":
                setting("job.labels.contamination", "none")(files, each)

    found = judged(edit)
    _require("it says that pretraining saw none of covid-rural, and what is known of its backbone says unknown", found.faults)


def test_more_contamination_than_is_known_may_be_admitted(judged) -> None:
    def edit(files: Files, raw: dict[str, Any]) -> None:
        untrained = next(each for each in records_of(files, MASKS) if each["job"]["labels"]["backbone"] == "resnet18 (random)")
        setting("job.labels.contamination", "labels")(files, untrained)

    assert judged(edit).faults == ()


@pytest.mark.parametrize(
    ("task", "what", "sentence"),
    [
        (MASKS, "images", "it counts 99 images of the test split, and its statistics hold 7"),
        (MASKS, "positives", "it counts 99 positives of the test split"),
        (BOXES, "boxes", "it counts 99 boxes of the test split"),
        (BOXES, "positives", "it counts 99 positives of the test split"),
    ],
)
def test_edited_counts_are_refused(judged, task: str, what: str, sentence: str) -> None:
    _require(sentence, judged(setting(f"counts.test.{what}", 99), task).faults)


@pytest.mark.parametrize("what", ["images", "positives"])
def test_a_count_that_was_taken_out_is_refused(judged, what: str) -> None:
    def without(counts: dict[str, int]) -> dict[str, int]:
        return {name: n for name, n in counts.items() if name != what}

    _require(f"it counts no {what} of the test split, and its statistics hold", judged(setting("counts.test", without), MASKS).faults)


@pytest.mark.parametrize("which", ["test", "test sorted"])
def test_an_edited_digest_of_the_test_images_is_refused(judged, which: str) -> None:
    _require("its digest of the test images", judged(setting(f"sample_digests.{which}", "0" * 64)).faults)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("job.experiment.recipe.max_steps", 5000, "no card plans such a job"),
        ("job.experiment.head_seed", 777, "no card plans such a job"),
        ("job.experiment.task_version", 99, "it is of version 99 of covid-rural-linear-frozen-demo, and LOBE has version 2"),
        ("job.experiment.switches.data_order", "one-seed", "no card plans such a job"),
        ("job.experiment.dataset.split_rule.rule", "permutation of mine", "its split lovt is none of the card"),
        ("job.experiment.dataset.intensity", lambda old: "as-stored" if old == "equalised" else "equalised", "its images and classes"),
        ("redistribution", "open", "it says its data may be passed on as open, and the card of covid-rural says ids"),
        ("job.labels.protocol", "mine", "LOBE has no protocol mine"),
        ("job.labels.task", "mine", "which are not LOBE's"),
    ],
)
def test_a_recipe_that_is_not_the_cards_is_refused(judged, path: str, value: Any, sentence: str) -> None:
    _require(sentence, judged(setting(path, value)).faults)


def recomputed(files: Files, raw: dict[str, Any]) -> dict[str, float]:
    """The record's metrics as its statistics give them."""
    pooled = pooled_metrics(statistics_in(files, raw).statistics)
    return {name: value for name in raw["metrics"] if (value := pooled[name](None)) is not None}


def both_alike(files: Files, raw: dict[str, Any]) -> None:
    """Statistics and metrics edited alike: nothing contradicts them but the predictions."""

    def better(found: ByImage) -> ByImage:
        counts = found.statistics.counts
        return replace(found, statistics=replace(found.statistics, counts=replace(counts, fp=counts.fp // 2)))

    edit_statistics(files, raw, better)
    raw["metrics"] = recomputed(files, raw)
    put(files, raw)


def test_statistics_and_metric_edited_alike_are_refused_by_who_scores_again(judged, corpora: Path, image_cache: Path) -> None:
    assert judged(both_alike).faults == ()
    found = judged(both_alike, data=[str(corpora)], cache=image_cache.parent / "validating")
    _require("and its predictions score 0.", found.faults)
    assert len(found.faults) == 1


def test_a_ground_truth_of_ones_own_is_refused_beside_any_other(judged) -> None:
    """Fewer ill pixels that were missed: statistics and metric agree, and so they do with nobody else's."""

    def milder(found: ByImage) -> ByImage:
        counts = found.statistics.counts
        return replace(found, statistics=replace(found.statistics, counts=replace(counts, fn=counts.fn // 2)))

    def edit(files: Files, raw: dict[str, Any]) -> None:
        edit_statistics(files, raw, milder)
        raw["metrics"] = recomputed(files, raw)
        put(files, raw)

    found = judged(edit)
    assert [fault for fault in found.faults if "its ground truth is not that of other records on the same images" not in fault] == []
    assert found.faults


def test_a_rate_that_is_not_the_jobs_is_refused(judged) -> None:
    _require("its learning rate is 0.5, and its job's is 0.01", judged(setting("learning_rate", 0.5)).faults)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("warnings", ["all is well\u202e"]),
        ("environment", {"torch": "2\x00"}),
        ("environment", {"=cmd": "2"}),
        ("warnings", ["long " * 1000]),
        ("job.labels.fraction_text", "-1 %"),
        ("parameters", {"tr\u0430ined": 1}),
    ],
)
def test_a_text_anywhere_that_may_not_be_shown_is_refused(judged, path: str, value: Any) -> None:
    _require("holds the text", judged(setting(path, value)).faults)


def test_who_scores_again_raises_the_level(judged, corpora: Path, image_cache: Path) -> None:
    found = judged(setting("steps", 3), data=[str(corpora)], cache=image_cache.parent / "validating")
    assert (found.faults, found.trust, found.n_rescored) == ((), "re-scored", 4)


def moved(found: ByImage) -> ByImage:
    """A pixel that was found in one image is found in another one instead; all sums, and what is truly ill of each image, stay."""
    counts = found.statistics.counts
    move = np.zeros_like(counts.tp)
    move[np.flatnonzero(counts.tp[:, 0])[0]] -= 1
    move[np.flatnonzero(counts.fn[:, 0])[-1]] += 1
    return replace(found, statistics=replace(found.statistics, counts=replace(counts, tp=counts.tp + move, fn=counts.fn - move)))


def closer(found: ByImage) -> ByImage:
    """Boxes that lie nearer to the truth, and cross no threshold by that."""
    table = found.statistics.table
    return replace(found, statistics=replace(found.statistics, table=replace(table, pair_iou=table.pair_iou * (1 + 1e-5))))


def of_one_patient_each(found: ByImage) -> ByImage:
    return replace(found, patients=tuple(f"P{k}" for k in range(len(found.ids))))


@pytest.mark.parametrize(
    ("task", "change", "sentence"),
    [
        (MASKS, moved, "its statistics say something else of 2 of 7 test images than its predictions do (tp, fn)"),
        (BOXES, closer, "than its predictions do (pair_iou)"),
        (MASKS, of_one_patient_each, "of 7 test images another patient than the release does"),
        (BOXES, of_one_patient_each, "test images another patient than the release does"),
    ],
)
def test_numbers_of_single_images_that_give_the_reported_metric_are_refused_by_who_scores_again(
    judged, corpora: Path, image_cache: Path, task: str, change: Callable[[ByImage], ByImage], sentence: str
) -> None:
    """Intervals and p rest on them. What would tell, a metric of single images, the forger leaves out of the record."""

    def edit(files: Files, raw: dict[str, Any]) -> None:
        edit_statistics(files, raw, change)
        report = raw["job"]["experiment"]["report"]
        raw["metrics"] = {report: raw["metrics"][report]}
        put(files, raw)

    assert judged(edit, task).faults == ()
    found = judged(edit, task, data=[str(corpora)], cache=image_cache.parent / "validating")
    assert (len(found.faults), found.n_rescored, found.levels[task]) == (1, 3, "recomputed")
    assert sentence in found.faults[0]


def test_made_up_predictions_are_noticed_by_nobody_but_who_trains_again(
    judged, out: Path, corpora: Path, image_cache: Path, tmp_path: Path
) -> None:
    """What the docs say is not promised: predictions, statistics and metrics that fit each other, and no network."""

    def edit(files: Files, raw: dict[str, Any]) -> None:
        other = next(each for each in records_of(files, MASKS) if each["key"] != raw["key"])
        for name in ("masks.parquet", "statistics.parquet"):
            files[f"predictions/{raw['key']}/{name}"] = files[f"predictions/{other['key']}/{name}"]
        raw["metrics"] = other["metrics"]
        put(files, raw)

    found = judged(edit, data=[str(corpora)], cache=image_cache.parent / "validating", rerun=out)
    assert found.faults == ()
    assert (found.n_rerun, found.levels) == (3, {MASKS: "re-scored", BOXES: "re-run"})
    _require("trained again it gives opacity_dice", found.notes)


def test_an_edited_metric_of_ones_own_store_is_refused_with_any_checksum(out: Path) -> None:
    files = {f"records/{path.name}": path.read_bytes() for path in (out / "records").glob("*.json")}
    files |= {str(path.relative_to(out)): path.read_bytes() for path in (out / "predictions").rglob("*") if path.is_file()}
    raw = records_of(files, BOXES)[0]
    setting("metrics.AP40_75_full", 0.99)(files, raw)
    (out / "records" / f"{raw['key']}.json").write_bytes(files[f"records/{raw['key']}.json"])
    records, refused = Shelf(out).believable(("statistics.parquet",), STATISTICS)
    assert (len(records), [one.key for one in refused]) == (7, [raw["key"]])
    _require("its AP40_75_full is 0.99, and its statistics give", [refused[0].sentence])


def _require(sentence: str, said: Sequence[str]) -> None:
    assert any(sentence in one or re.search(sentence, one) for one in said), said
