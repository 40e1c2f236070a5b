"""Maps of a classifier end to end on generated images: labels teach, validation says where to cut, and the test is held to masks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmark import kinds, registry, task_rules
from benchmark.errors import DataError, TrainingError
from benchmark.heads import class_map
from benchmark.heads.base import HeadRequest
from benchmark.imaging.geometry import Frame
from benchmark.kinds.class_maps import KIND, MAPS_FILE, Outlined
from benchmark.kinds.kit.stored import read_statistics
from benchmark.metrics import class_maps, spec
from benchmark.metrics.class_maps import CUTOFFS, THRESHOLDS, Cut
from benchmark.metrics.statistics import pooled_metrics
from tests.corpora import write_chexpert_and_chexlocalize

TASK = "chexpert-to-chexlocalize-class-map-frozen-100-lobe"
NAMES = ("left", "right", "unseen")
SIZE, GRID = 64, 2


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert_and_chexlocalize(tmp_path_factory.mktemp("pair"))


class Part:
    """Stands for a part: square images of one side, which is the frame's."""

    def __init__(self, labels: list[list[int]]) -> None:
        masks = np.zeros((3, SIZE, SIZE), bool)
        masks[0, :, : SIZE // 4], masks[1, :, SIZE // 2 :] = True, True
        given = np.array(labels, np.int8)
        self.annotations = Outlined(given, tuple(lambda shape, row=row: masks * (row == 1)[:, None, None] for row in given))
        self.rows, self.name = np.arange(len(given)), "test"
        self.cache = SimpleNamespace(
            frames=lambda rows: [Frame.of(SIZE, SIZE, SIZE)] * len(rows), recipe=SimpleNamespace(dataset="made up")
        )
        self.prepared = KIND.prepare(self)

    def __len__(self) -> int:
        return len(self.rows)


def maps(*logits: float) -> torch.Tensor:
    """A map for each class, at its left end as high as its logit is and falling to the right; of mean 0 but for that."""
    slope = torch.tensor([[3.0, -3.0], [3.0, -3.0]])
    return torch.stack([sign * slope + logit for logit, sign in zip(logits, (1, -1, 1), strict=True)])


def built():
    return class_map.build(HeadRequest({32: 4}, 3, SIZE, registry.protocol("corrected").switches))


def validated(labels: list[list[int]], predicted: torch.Tensor):
    head = built()
    return head, KIND.validate([(np.arange(len(predicted)), predicted)], Part(labels), NAMES, head)


def scores_of(head, labels: list[list[int]], predicted: torch.Tensor):
    card = registry.dataset("chexpert-to-chexlocalize").model_copy(update={"classes": NAMES})
    return KIND.test([(np.arange(len(predicted)), predicted)], Part(labels), card, head, 8)


def test_where_maps_are_cut_is_chosen_on_validation_and_told_with_it() -> None:
    head, told = validated([[1, 0, 0], [0, 1, 0]], torch.stack([maps(2, -2, -9), maps(-2, 2, -9)]))
    left, right, unseen = head.kept_cuts()
    assert (left.threshold, right.threshold) == (0.8, 0.5)  # a quarter of the width, and a half
    assert left.cutoff > 0.1  # so that the image without it stays empty
    assert unseen is None
    assert {k: v for k, v in told.items() if k != "auroc"} == {
        f"{name}_{what}": value for name, cut in (("left", left), ("right", right)) for what, value in cut._asdict().items()
    }


def test_the_test_is_cut_where_validation_said_and_changes_no_cut() -> None:
    head, _ = validated([[1, 0, 0], [0, 1, 0]], torch.stack([maps(2, -2, -9), maps(-2, 2, -9)]))
    before = head.kept_cuts()
    labels, predicted = [[1, 1, 0]], torch.stack([maps(2, 2, -9)])
    found = scores_of(head, labels, predicted).metrics
    assert head.kept_cuts() == before
    head.keep_cuts([Cut(0.2, 0.0), Cut(0.2, 0.0), None])
    other = scores_of(head, labels, predicted).metrics
    assert other["left_mask_iou"] < found["left_mask_iou"]
    assert other["pointing"] == found["pointing"] == 1


def test_empty_predictions_score_0_beside_the_slice_that_leaves_them_out() -> None:
    head = built()
    head.keep_cuts([Cut(0.5, 0.5), Cut(0.5, 0.5), Cut(0.5, 0.5)])
    labels = [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    found = scores_of(head, labels, torch.stack([maps(2, 2, -9), maps(-2, -2, -9), maps(2, -2, -9)])).metrics
    assert found["left_mask_iou"] == pytest.approx(found["left_mask_iou_official"] / 2)  # the second image stays empty
    assert found["right_mask_iou"] == found["right_mask_iou_official"] > 0.9
    values = [found["left_mask_iou_official"], 0, found["right_mask_iou"]]
    assert found["mask_iou"] == pytest.approx(np.mean(values))
    assert found["mask_iou_official"] == pytest.approx(np.mean([values[0], values[2]]))
    assert found["mask_iou_full"] == pytest.approx(np.mean([*values, 0]))  # the third image has nothing, and left is found there
    assert found["mean_mask_iou"] == pytest.approx(np.mean([found["left_mask_iou"], found["right_mask_iou"]]))
    assert found["auroc"] == pytest.approx(np.mean([0.25, 1]))


def test_a_finding_without_a_validation_image_is_named() -> None:
    head, _ = validated([[1, 0, 0], [0, 1, 0]], torch.stack([maps(2, -2, -9), maps(-2, 2, -9)]))
    warnings = scores_of(head, [[1, 1, 0]], torch.stack([maps(2, 2, -9)])).warnings
    assert any("no validation image has unseen" in one for one in warnings)


def test_a_head_that_was_never_validated_is_not_tested() -> None:
    with pytest.raises(TrainingError, match="not validated"):
        scores_of(built(), [[1, 0, 0]], torch.stack([maps(2, 2, 2)]))


def test_a_test_image_without_masks_is_an_error() -> None:
    with pytest.raises(DataError, match="has no masks"):
        Outlined(np.ones((1, 3), np.int8), (None,)).masks(0, Frame.of(SIZE, SIZE, SIZE))


def test_a_part_of_the_frame_that_no_pixel_of_the_image_fills_is_not_looked_at() -> None:
    from benchmark.kinds.class_maps import _filled

    rows, columns = _filled(Frame.of(100, 50, 64))
    assert (rows, columns) == (slice(0, 64), slice(16, 48))


def test_a_job_learns_from_labels_and_is_scored_against_masks(small, tiny, corpora: Path, tmp_path: Path) -> None:
    job, place = small.one(TASK, tiny(), root=corpora, limit=12)
    record = small.fit(job, place, produced=tmp_path / "out")
    assert (record.status, record.redistribution, record.phantom) == ("ok", "none", True)
    assert 0 <= record.metrics["mask_iou"] <= record.metrics["mask_iou_official"] <= 1
    assert record.metrics["mask_iou_full"] <= record.metrics["mask_iou"]
    cuts = {name: value for name, value in record.validation.items() if name.endswith(("_threshold", "_cutoff"))}
    assert cuts
    assert all(value in (THRESHOLDS if name.endswith("_threshold") else CUTOFFS) for name, value in cuts.items())
    assert not any(name.endswith(("_threshold", "_cutoff")) for name in record.metrics)
    known = task_rules.metric_names(registry.task(TASK), registry.dataset("chexpert-to-chexlocalize"), registry.prompts())
    assert set(record.metrics) <= known.report
    assert record.anchors == {}
    stored = pq.read_table(tmp_path / "out" / MAPS_FILE)
    n_test = record.counts["test"]["images"]
    assert stored.num_rows == n_test
    assert {len(one) for one in stored["map"].to_pylist()} == {10 * 2 * 2}
    kept = read_statistics(tmp_path / "out" / "statistics.parquet").statistics
    again = {name: metric(None) for name, metric in pooled_metrics(kept).items()}
    assert again["mask_iou"] == record.metrics["mask_iou"]


def test_the_kind_is_found_by_its_target_and_its_metrics_have_titles() -> None:
    assert kinds.of_task(registry.task(TASK)) is KIND
    assert spec.title_of("Edema_mask_iou_official", class_maps.TARGET) == "Edema IoU of masks, images where something is found"
    assert spec.title_of("Edema_threshold", class_maps.TARGET) == "Edema threshold from validation"
    names = task_rules.metric_names(registry.task(TASK), registry.dataset("chexpert-to-chexlocalize"), registry.prompts())
    assert names.select == {"negative_loss", "auroc"}
    assert "Edema_threshold" not in names.report


@pytest.mark.usefixtures("small_frames")
def test_the_command_runs_from_two_folders_to_a_row(lobe, tiny, corpora: Path, tmp_path: Path) -> None:
    given = ["--backbone", f"{tiny()}:build", "--data", corpora, "--out", tmp_path / "out", "--protocol", "corrected", "--seeds", 1]
    code, stdout, stderr = lobe(
        "run", "--task", TASK, *given, "--profile", "smoke", "--limit", 12, "--executor", "inline", "--no-tracking", "--json"
    )
    assert code == 0, stdout + stderr
    (row,) = json.loads(stdout)["rows"]
    assert row["task"] == TASK
    assert math.isfinite(row["mean_percent"])
