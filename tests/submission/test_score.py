"""Re-scoring: the same predictions give the same number, and predictions of anything else are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import kinds, registry
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.base import ScoredSplit
from benchmark.kinds.detection import DETECTIONS_FILE, SIDES
from benchmark.kinds.kit.stored import write
from benchmark.kinds.segmentation import MASKS_FILE, encode
from benchmark.metrics.label_statistics import MeanStatistics
from benchmark.readers.base import open_reader
from benchmark.submission.score import scorer, side_of_file
from benchmark.training import data

DETECTION, MASKS = "rsna-yolov3-frozen-100", "covid-rural-linear-frozen-100"


@pytest.fixture
def perfect(small, tiny, tmp_path: Path):
    """Writes the truth of a part of a task as its predictions and returns the file, as a run stores it."""
    from benchmark.metrics.boxes import Detections

    file = tiny()

    def make(task: str, name: str = "test", limit: int = 12, split: str | None = "lovt", size: int = 224) -> Path:
        import numpy as np

        job, place = small.one(task, file, size=size, limit=limit, card={} if split is None else {"split": split})
        part = data.load_part(job.experiment, place, name)
        truth = part.truth()
        boxes = Detections(**vars(truth), confidence=np.ones(len(truth.image)))
        found = boxes if task == DETECTION else encode(part.masks(np.arange(len(part))))
        kept = MeanStatistics(("value",), np.arange(len(part)), np.ones((len(part), 1)), len(part))
        folder = tmp_path / f"{task}-{name}-{limit}-{split}-{size}"
        folder.mkdir()
        write(folder, job, part, ScoredSplit({}, kept, found, ()), with_examples=False)
        return folder / (DETECTIONS_FILE if task == DETECTION else MASKS_FILE)

    return make


def as_json(file: Path) -> dict:
    """What `lobe export` gives of a file."""
    kind = kinds.find("boxes" if file.name == DETECTIONS_FILE else "masks", trains=True)
    return json.loads(kind.export(file, "task")[1])


@pytest.fixture
def score(corpora: Path, image_cache: Path):
    def call(task: str, file: Path, limit: int | None = 12, **more):
        return scorer(task, [str(corpora)], image_cache.parent / "scoring", "published", limit, **more).score(file)

    return call


@pytest.mark.parametrize(("task", "metric"), [(DETECTION, "coco_AP"), (MASKS, "opacity_dice")])
def test_the_truth_as_prediction_is_perfect(perfect, score, task, metric):
    found = score(task, perfect(task))
    assert found.metrics[metric] == pytest.approx(1.0)
    assert (found.task, found.protocol, found.undefined.keys() & {metric}) == (task, "published", set())


def test_order_of_images_in_the_file_does_not_matter(perfect, score, tmp_path: Path):
    file = perfect(DETECTION)
    content = as_json(file)
    content["images"].reverse()
    content["annotations"].reverse()
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    assert score(DETECTION, tmp_path / "reversed.json").metrics == score(DETECTION, file).metrics


def rewritten(file: Path, to: Path, change: Callable[[pa.Table], pa.Table] = lambda table: table, **header: str | None) -> Path:
    """A copy of a file of columns with changes to its table and its header; None takes a text of the header out."""
    table = pq.read_table(file)
    kept = {name.decode(): text.decode() for name, text in table.schema.metadata.items()} | header
    pq.write_table(change(table).replace_schema_metadata({name: text for name, text in kept.items() if text is not None}), to)
    return to


@pytest.mark.parametrize("task", [DETECTION, MASKS])
def test_columns_and_json_in_any_order_of_images_score_to_the_same_bits(perfect, score, tmp_path: Path, task):
    file = perfect(task)
    given = score(task, file).metrics
    (tmp_path / "given.json").write_text(json.dumps(as_json(file)))
    assert score(task, tmp_path / "given.json").metrics == given
    turned = rewritten(file, tmp_path / "turned.parquet", lambda table: table.take(list(range(len(table)))[::-1]))
    assert score(task, turned).metrics == given
    bare = [*(SIDES if task == DETECTION else ()), *(("confidence", "class") if task == DETECTION else ("counts",))]
    assert score(task, rewritten(file, tmp_path / "bare.parquet", lambda table: table.select(["id", *bare]))).metrics == given


@pytest.mark.parametrize("task", [DETECTION, MASKS])
@pytest.mark.parametrize(
    ("change", "header", "kind", "sentence"),
    [
        (lambda table: table.slice(1), {}, UsageError, "1 missing, 0 foreign"),
        (lambda table: pa.concat_tables([table, table.slice(0, 1)]), {}, UsageError, "1 image names are repeated"),
        (lambda table: table.drop_columns("id"), {}, UsageError, "has no column 'id'"),
        (lambda table: table, {"frame": "padded-512"}, FrameMismatch, "padded-512.*padded-224"),
        (lambda table: table, {"frame": None}, FrameMismatch, "does not say in which frame"),
        (lambda table: table, {"classes": '["lung"]'}, UsageError, "its classes are lung; the task's classes are opacity"),
        (lambda table: table, {"split": "size-matched"}, UsageError, "was made for"),
    ],
)
def test_columns_of_other_images_frames_classes_and_splits_are_refused(
    perfect, score, tmp_path: Path, task, change, header, kind, sentence
):
    with pytest.raises(kind, match=sentence):
        score(task, rewritten(perfect(task), tmp_path / "other.parquet", change, **header))


@pytest.mark.parametrize(("way", "why"), [(lambda x: x / 224, "shares of the frame"), (lambda x: -x, "a negative width or height")])
def test_boxes_in_columns_are_held_to_their_units(perfect, score, tmp_path: Path, way, why):
    def change(table: pa.Table) -> pa.Table:
        for name in SIDES:
            lists = [[way(value) for value in each] for each in table.column(name).to_pylist()]
            table = table.set_column(table.column_names.index(name), name, [lists])
        return table

    with pytest.raises(UsageError, match=why):
        score(DETECTION, rewritten(perfect(DETECTION), tmp_path / "other.parquet", change))


@pytest.mark.parametrize("task", [DETECTION, MASKS])
def test_predictions_of_another_split_are_refused(perfect, score, task):
    with pytest.raises(UsageError, match="its images are not the task's"):
        score(task, perfect(task, "validation"))


def lists_of(corpora: Path, folder: Path, split: str, turned: bool = False) -> Path:
    """Split lists of the RSNA phantom; `turned` exchanges the first two training images, which makes them other lists."""
    reader = open_reader(registry.dataset("rsna"), corpora / "rsna")
    (folder / "rsna").mkdir(parents=True)
    for name, ids in reader.split(reader.card.splits[split]).items():
        ids = (ids[1], ids[0], *ids[2:]) if turned and name == "train" else ids
        (folder / "rsna" / f"{name}.csv").write_text("\n".join(["ID", *ids]) + "\n")
    return folder


@pytest.mark.parametrize("split", ["lovt", "patient-disjoint", "size-matched"])
def test_predictions_are_scored_on_the_split_they_were_made_for_and_on_no_other(perfect, score, split):
    file = perfect(DETECTION, split=split)
    found = score(DETECTION, file, split=split)
    assert (found.split, found.metrics["coco_AP"]) == (split, pytest.approx(1.0))
    for other in {"lovt", "patient-disjoint", "size-matched"} - {split}:
        # The three splits share their test images: only what the file says of itself tells them apart.
        with pytest.raises(UsageError, match=f"made for the split {split} .* not for {other} .*--split {split}"):
            score(DETECTION, file, split=other)


def test_lists_stand_for_the_rule_that_gives_them_and_other_lists_are_refused(perfect, score, corpora: Path, tmp_path: Path):
    file = perfect(DETECTION, split="patient-disjoint")
    same = lists_of(corpora, tmp_path / "same", "patient-disjoint")
    assert score(DETECTION, file, splits=same).metrics == score(DETECTION, file, split="patient-disjoint").metrics
    other = lists_of(corpora, tmp_path / "other", "patient-disjoint", turned=True)
    with pytest.raises(UsageError, match="not for lists"):
        score(DETECTION, file, splits=other)


def test_a_file_that_does_not_name_its_split_is_scored_on_the_one_the_user_names_and_on_no_guess(perfect, score, tmp_path: Path):
    content = as_json(perfect(DETECTION))
    del content["split"], content["split_rule"]
    (tmp_path / "silent.json").write_text(json.dumps(content))
    assert score(DETECTION, tmp_path / "silent.json", split="patient-disjoint").split == "patient-disjoint"
    with pytest.raises(UsageError, match=r"does not say for which split .* patient-disjoint"):
        score(DETECTION, tmp_path / "silent.json")


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "corners"),
        (lambda *box: [v * 1024 / 224 for v in box], "original pixels"),
        (lambda *box: [v / 224 for v in box], "shares of the frame"),
    ],
    ids=["corners", "original-pixels", "shares"],
)
def test_perfect_boxes_in_other_units_are_refused_not_scored(perfect, score, tmp_path: Path, way, why):
    content = as_json(perfect(DETECTION))
    for row in content["annotations"]:
        row["bbox"] = way(*row["bbox"])
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=why):
        score(DETECTION, tmp_path / "other.json")


def test_a_rule_and_lists_at_once_are_refused(perfect, score, tmp_path: Path):
    with pytest.raises(UsageError, match="use either"):
        score(DETECTION, perfect(DETECTION), split="lovt", splits=tmp_path)


def test_predictions_of_another_limit_are_refused_with_the_cure(perfect, score):
    with pytest.raises(UsageError, match="need the same --limit"):
        score(DETECTION, perfect(DETECTION, limit=8))


@pytest.mark.parametrize("frame", ["original", "padded-512"])
def test_predictions_measured_in_another_frame_are_refused(perfect, score, tmp_path: Path, frame):
    content = as_json(perfect(DETECTION))
    (tmp_path / "other.json").write_text(json.dumps(content | {"frame": frame}))
    with pytest.raises(FrameMismatch, match=f"{frame}.*padded-224"):
        score(DETECTION, tmp_path / "other.json")


def test_repeated_images_are_refused(perfect, score, tmp_path: Path):
    content = as_json(perfect(DETECTION))
    content["images"].append(content["images"][0] | {"id": 999})
    (tmp_path / "twice.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="1 image names are repeated"):
        score(DETECTION, tmp_path / "twice.json")


def test_predictions_of_other_classes_are_refused(perfect, score, tmp_path: Path):
    content = as_json(perfect(MASKS))
    content["categories"][0]["name"] = "lung"
    (tmp_path / "lungs.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="categories are lung; the task's classes are opacity"):
        score(MASKS, tmp_path / "lungs.json")


def test_images_that_share_an_id_are_refused_not_pooled(perfect, score, tmp_path: Path):
    content = as_json(perfect(DETECTION))
    content["images"][1]["id"] = content["images"][0]["id"]
    (tmp_path / "shared.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="row 2 of its table `images`"):
        score(DETECTION, tmp_path / "shared.json")


def test_a_mask_of_another_size_is_refused_not_stretched(perfect, score, tmp_path: Path):
    content = as_json(perfect(MASKS))
    content["annotations"][0]["segmentation"] = {"size": [1, 1], "counts": [0, 1]}
    (tmp_path / "small.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"annotation 1 .*1 x 1 pixels, its frame 224 x 224"):
        score(MASKS, tmp_path / "small.json")


def test_masks_have_no_ranking_so_their_average_precision_is_undefined_not_zero(perfect, score):
    found = score(MASKS, perfect(MASKS))
    assert "pixel_ap" not in found.metrics
    assert "without probabilities" in found.undefined["pixel_ap"]


def test_scoring_against_an_edited_copy_of_the_data_still_needs_its_images(perfect, corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    labels = tmp_path / "data" / "rsna" / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *sorted(rows)]) + "\n")
    with pytest.raises(UsageError, match="foreign"):
        scorer(DETECTION, [str(tmp_path / "data")], tmp_path / "cache", "published", 12).score(perfect(DETECTION))


def test_a_frame_that_is_the_backbones_own_is_the_one_that_the_file_names(perfect, corpora: Path, image_cache: Path, monkeypatch):
    """Finer frames come nearer to the truth in original pixels, and the controlled protocol takes none but the task's."""
    task, cache = "covid-rural-linear-frozen-100-lobe-v1", image_cache.parent / "scoring"
    coarse, fine = (perfect(task, split=None, size=size) for size in (96, 224))
    values = [scorer(task, [str(corpora)], cache, "lobe-native", 12).score(file).metrics["opacity_dice"] for file in (coarse, fine)]
    assert 0.5 < values[0] < values[1] < 1
    with pytest.raises(FrameMismatch, match=r"padded-96.*padded-224"):
        scorer(task, [str(corpora)], cache, "lobe", 12).score(coarse)
    monkeypatch.setattr("benchmark.submission.score.MOST_NATIVE", 64)
    with pytest.raises(UsageError, match="a frame of 96 pixels; a backbone's own is taken up to 64"):
        scorer(task, [str(corpora)], cache, "lobe-native", 12).score(coarse)


def test_class_scores_have_no_frame_that_a_file_could_name(tmp_path: Path):
    assert side_of_file(tmp_path / "scores.parquet", kinds.find("labels", trains=True)) is None
