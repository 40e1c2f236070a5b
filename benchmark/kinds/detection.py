"""Detection: boxes with a confidence, learned from boxes, scored by average precision and FROC, stored as lists of boxes per image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from benchmark.cards import DatasetCard, Job, PromptCard, TaskCard
from benchmark.errors import UsageError
from benchmark.kinds.base import Example, Frames, Part, Predicted, ScoredSplit, StoredForm, TrainedKind, warnings_of
from benchmark.kinds.kit import coco_json, columnar, drawing, heading, original_boxes, submitted
from benchmark.kinds.kit.drawing import PREDICTION, SIDE, TAG, TRUTH
from benchmark.kinds.kit.heading import Heading
from benchmark.kinds.kit.stored import N_EXAMPLES
from benchmark.metrics import box_statistics, scores
from benchmark.metrics.box_units import wrong_units
from benchmark.metrics.boxes import Detections
from benchmark.metrics.columns import Lists, exact, identical, narrow
from benchmark.metrics.scores import Scores

if TYPE_CHECKING:
    import torch

    from benchmark.heads.base import Head, ImageDetections, Targets

DETECTIONS_FILE = "detections.parquet"
DETECTIONS_JSON = "detections.json"  # what earlier releases stored, and what people are given
SIDES = ("x", "y", "width", "height")
SHOWN_CONFIDENCE = 0.2  # LoVT's threshold: what a detection metric saw
_WITHOUT_END = np.array([-np.inf, -np.inf, np.inf, np.inf])  # x, y, width, height of a box that overflowed


class Detection(TrainedKind):
    """Heads predict a list of `ImageDetections`, one per image."""

    name = "detection"
    target = "boxes"
    stored_as: ClassVar[StoredForm] = columnar
    shows_classes = True
    drawn_from = (DETECTIONS_FILE, DETECTIONS_JSON)
    earlier_forms: ClassVar[Mapping[str, str]] = {DETECTIONS_JSON: DETECTIONS_FILE}
    draws_by_epoch = True
    later_switches = frozenset({"scored_in"})

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        return box_statistics.FIELDS

    def prepare(self, part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n, M, 4) float32 boxes, (n, M) int64 labels and (n, M) bool, padded to the part's largest count."""
        most = max([len(b) for b in part.boxes] + [1])
        boxes = np.zeros((len(part), most, 4), np.float32)
        labels = np.zeros((len(part), most), np.int64)
        valid = np.zeros((len(part), most), bool)
        for i, (b, k) in enumerate(zip(part.boxes, part.labels, strict=True)):
            boxes[i, : len(b)], labels[i, : len(b)], valid[i, : len(b)] = b, k, True
        return boxes, labels, valid

    def n_positive(self, part: Part) -> int:
        return sum(len(b) > 0 for b in part.boxes)

    def targets(self, part: Part, index: np.ndarray, device: torch.device) -> Targets:
        import torch

        from benchmark.heads.base import Targets

        padded, labels, valid = part.prepared
        most = max(int(valid[index].sum(axis=1).max(initial=0)), 1)
        return Targets(
            boxes_xywh=torch.from_numpy(padded[index, :most]).to(device),
            box_labels=torch.from_numpy(labels[index, :most]).to(device),
            box_valid=torch.from_numpy(valid[index, :most]).to(device),
            draws=tuple((part.epoch, int(i)) for i in index),
        )

    def validate(self, predicted: Predicted, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, float]:
        return scores.detection_selection(_flat(predicted, part.frame_name), part.truth(), class_names)

    def of_loss(self, loss: float) -> dict[str, float]:
        """Nothing: no paper selects a detector by its loss."""
        return {}

    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> ScoredSplit:
        detections = _flat(predicted, part.frame_name)
        found = scores.score_detection(*original_boxes.as_scored(detections, part), card.classes)
        return ScoredSplit(found.metrics, found.statistics, detections, warnings_of(found))

    def store(self, folder: Path, job: Job, part: Part, predictions: Detections) -> None:
        """Raises UsageError for a confidence that is not finite."""
        write_detections(folder / DETECTIONS_FILE, heading.of(job, part), predictions)

    def examples(self, part: Part, predictions: Any) -> dict[str, np.ndarray] | None:
        """The first images with a box, in the split's order."""
        positive = [i for i in range(len(part)) if len(part.boxes[i])]
        index = np.array(positive[:N_EXAMPLES], np.int64)
        if not len(index):
            return None
        boxes = [part.boxes[i] for i in index]
        return {
            "index": index,
            "images": part.images(index).numpy(),
            "boxes_xywh": np.concatenate(boxes),
            "box_owner": np.repeat(np.arange(len(index)), [len(b) for b in boxes]),
            "box_labels": np.concatenate([part.labels[i] for i in index]),
        }

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        found, ids = read_detections(file, card.classes)
        submitted.require_same_images(file, ids, part, card)
        submitted.require_frame(file, found.frame, part)
        if (why := wrong_units(found, job.experiment.dataset.frame_size)) is not None:
            raise UsageError(f"{file}: {why}. Boxes are x, y, width, height in pixels of the frame {found.frame!r}, after suppression.")
        order = submitted.positions(ids, part)
        placed = Detections(order[found.image], found.xywh, found.label, found.n_images, found.frame, found.confidence)
        return scores.score_detection(*original_boxes.as_scored(placed, part), card.classes)

    def convert(self, file: Path, into: Path) -> None:
        content = coco_json.load(file)
        about, given = coco_json.heading_in(file, content), _of_json(file, content, None)[0]
        write_detections(into, about, given)
        again, written = read_detections(into)[0], columnar.heading_of(into)
        exactly = identical(given, again) and identical(about, written)
        if not exactly or {**coco_json.headed(written), "annotations": _annotations(again)} != coco_json.as_of_today(content):
            raise UsageError(f"{file} holds more than {DETECTIONS_FILE} would: it was not written by LOBE, or edited.")

    def export(self, file: Path, frame: Frames) -> tuple[str, bytes] | None:
        if file.name not in self.drawn_from:
            return None
        found, about = read_detections(file)[0], columnar.heading_of(file)
        if frame == "original":
            found, about = original_boxes.mapped_back(found, heading.frames_of(file, about)), replace(about, frame=frame)
        content = {**coco_json.headed(about), "annotations": _annotations(found)}
        return DETECTIONS_JSON, json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image.Image]:
        (file,) = files.values()
        found, _ = read_detections(file, images=[example.index for example in examples])
        for place, example in enumerate(examples):
            mine = (found.image == place) & ~found.overflowed  # a box without end has no outline
            yield draw_detection(
                example.image,
                example.true_boxes_xywh,
                found.xywh[mine],
                found.confidence[mine],
                class_names=class_names,
                truth_labels=example.box_labels,
                predicted_labels=found.label[mine],
                note=note,
            )


KIND = Detection()


def write_detections(path: Path, about: Heading, found: Detections) -> None:
    """Writes the boxes of each image in the order given: float32 where that loses nothing, as with every head, else float64.

    A coordinate that is no number, left by a box that overflowed, becomes the end of the side it belongs to.

    Raises:
        UsageError: a confidence is not finite.
    """
    if not np.isfinite(found.confidence).all():
        raise UsageError(f"{path}: a confidence is not finite; the job that made these boxes diverged.")
    order = slice(None) if np.all(np.diff(found.image) >= 0) else np.argsort(found.image, kind="stable")
    xywh = np.asarray(found.xywh, np.float64)[order]
    xywh = np.where(np.isnan(xywh), _WITHOUT_END, xywh)
    counts = np.bincount(found.image, minlength=len(about.ids)).astype(np.int64)
    columns = {name: Lists(counts, exact(xywh[:, k])) for k, name in enumerate(SIDES)}
    columns["confidence"] = Lists(counts, exact(found.confidence[order]))
    columns["class"] = Lists(counts, narrow(found.label[order]))
    columnar.write(path, about, columns)


def read_detections(
    path: Path, classes: Sequence[str] | None = None, images: Sequence[int] | None = None
) -> tuple[Detections, tuple[str, ...]]:
    """The detections of a file of columns, or of COCO-style JSON, and its image ids in order.

    Args:
        classes: names that the file's classes must have, in any order; labels follow the order given here. None takes the file's.
        images: places in the file of those wanted, which the detections then count from 0; None for all. Of columns, no others are read.

    Raises:
        FrameMismatch: the file does not say in which frame it was measured.
        UsageError: the file is not one of detections, or one of its rows makes no sense; the row is named.
    """
    if columnar.is_one(path):
        with columnar.opened(path, classes) as given:
            return _of_columns(given, images), given.ids
    found, names = _of_json(path, coco_json.load(path), classes)
    return (found if images is None else _selected(found, images)), names


def draw_detection(
    image: np.ndarray,
    truth_xywh: np.ndarray,
    predicted_xywh: np.ndarray,
    confidence: np.ndarray,
    *,
    class_names: Sequence[str] = (),
    truth_labels: np.ndarray | None = None,
    predicted_labels: np.ndarray | None = None,
    note: str = "",
) -> Image.Image:
    """Boxes over one image.

    Args:
        image: (S, S) uint8, grey.
        truth_xywh: (n, 4) pixels of the same frame; n may be 0.
        predicted_xywh: (m, 4); m may be 0.
        confidence: (m,) in [0, 1]; boxes below `SHOWN_CONFIDENCE` are counted in the legend, not drawn.
        class_names: of several classes; boxes whose label is given then carry their class.
        truth_labels, predicted_labels: (n,) and (m,) int, indices into `class_names`.
        note: a few words for the legend, for example "phantom".

    Returns:
        An RGB picture, `SIDE` wide, with a legend below.
    """
    scale = SIDE / image.shape[0]
    truth, predicted = (np.asarray(b, dtype=float).reshape(-1, 4) for b in (truth_xywh, predicted_xywh))
    confidence = np.asarray(confidence, dtype=float).reshape(-1)
    if len(confidence) != len(predicted):
        raise ValueError(f"{len(predicted)} predicted boxes but {len(confidence)} confidences.")
    picture, pen = drawing.canvas(image)
    true_names, found_names = (drawing.names(class_names, labels) for labels in (truth_labels, predicted_labels))
    for number, box in enumerate(truth):
        pen.polygon(drawing.corners(box * scale), outline=TRUTH, width=2)
        if true_names:  # below the box: above stands the prediction's
            below_left = drawing.corners(box * scale)[3]
            drawing.tag(pen, (below_left[0], below_left[1] + TAG), true_names[number], TRUTH)
    shown = np.flatnonzero(confidence >= SHOWN_CONFIDENCE)
    for index in shown[np.argsort(confidence[shown], kind="stable")]:
        # A box may be larger than any picture: its dashes outside are not drawn one by one.
        corners = np.clip(drawing.corners(predicted[index] * scale), -SIDE, 2 * SIDE)
        drawing.dashed(pen, np.array([*corners, corners[0]]), PREDICTION)
        named = f"{found_names[index]} " if found_names else ""
        drawing.tag(pen, corners[0], f"{named}{confidence[index]:.2f}", PREDICTION)
    hidden = len(predicted) - len(shown)
    below = f", {hidden} below {SHOWN_CONFIDENCE}" if hidden else ""
    drawing.legend(pen, f"truth ({len(truth)})", f"prediction ({len(shown)}{below})", note)
    return picture


def _flat(predicted: Predicted, frame: str) -> Detections:
    """All detections of a part, in the order of its images."""
    # To the CPU batch by batch: a test set's detections would fill a GPU.
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [_on_cpu(one) for _, each in predicted for one in each]
    counts = [len(confidence) for _, confidence, _ in found]
    return Detections(
        image=np.repeat(np.arange(len(found)), counts).astype(np.int64),
        xywh=np.concatenate([boxes for boxes, _, _ in found], dtype=np.float64).reshape(-1, 4),
        label=np.concatenate([labels for _, _, labels in found]).astype(np.int64),
        n_images=len(found),
        frame=frame,
        confidence=np.concatenate([confidence for _, confidence, _ in found], dtype=np.float64),
    )


def _on_cpu(one: ImageDetections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, confidence and labels of one image."""
    return one.boxes_xywh.cpu().numpy(), one.confidence.cpu().numpy(), one.labels.cpu().numpy()


def _of_columns(given: columnar.Predictions, images: Sequence[int] | None) -> Detections:
    lists = given.lists((*SIDES, "confidence", "class"), images)
    label = lists["class"].values
    if label.dtype != np.int64:
        raise UsageError(f"{given.file.path}: its column 'class' holds {label.dtype}, expected whole numbers.")
    known = (label >= 0) & (label < len(given.places))
    given.require(known, lists["class"], "class", f"a number from 0 to {len(given.places) - 1}", images)
    xywh = np.column_stack([lists[name].values for name in SIDES]).astype(np.float64).reshape(-1, 4)
    for k, name in enumerate(SIDES):  # infinite is a box that overflowed; no number is a value that is missing
        given.require(~np.isnan(xywh[:, k]), lists[name], name, "a number", images)
    confidence = lists["confidence"].values.astype(np.float64)
    given.require(np.isfinite(confidence), lists["confidence"], "confidence", "a number in [0, 1]", images)
    counts = lists["class"].counts
    place = np.array(given.places, np.int64)
    return Detections(lists["class"].image, xywh, place[label] if len(place) else label, len(counts), given.frame, confidence)


def _of_json(path: Path, content: dict[str, Any], classes: Sequence[str] | None) -> tuple[Detections, tuple[str, ...]]:
    names, index = coco_json.images(path, content)
    category = coco_json.categories(path, content, classes)
    rows = coco_json.rows(path, content)
    try:
        detections = Detections(
            image=np.array([index[r["image_id"]] for r in rows], np.int64),
            xywh=np.array([r["bbox"] for r in rows], np.float64).reshape(len(rows), 4),
            label=np.array([category[r["category_id"]] for r in rows], np.int64),
            n_images=len(index),
            frame=content["frame"],
            confidence=np.array([r["score"] for r in rows], np.float64).reshape(len(rows)),
        )
        marked = np.array([r.get("overflowed") is True for r in rows], bool)
        # NumPy reads null as not a number, and so does JSON's NaN. Only a row that says so has a box without end.
        if not (np.isfinite(detections.xywh[~marked]).all() and np.isfinite(detections.confidence).all()):
            raise ValueError("a number is missing or not finite")
        detections.xywh[marked] = np.where(np.isnan(detections.xywh[marked]), _WITHOUT_END, detections.xywh[marked])
    except (KeyError, TypeError, ValueError) as error:
        raise coco_json.first_fault(path, rows, index, category, _box_fault) or UsageError(f"{path}: {error}.") from None
    return detections, names


def _selected(found: Detections, images: Sequence[int]) -> Detections:
    """The detections of some images, which count from 0."""
    place = np.full(found.n_images, -1, np.int64)
    place[list(images)] = np.arange(len(images))
    kept = place[found.image] >= 0
    mine = (place[found.image[kept]], found.xywh[kept], found.label[kept], len(images), found.frame, found.confidence[kept])
    return Detections(*mine)


def _annotations(found: Detections) -> list[dict[str, Any]]:
    """Rows of COCO's result file. A number that overflowed is null, because JSON has no infinity; the row says so."""
    rows: list[dict[str, Any]] = [
        {"image_id": int(i) + 1, "category_id": int(k) + 1, "bbox": [float(v) for v in box], "score": float(c)}
        for i, k, box, c in zip(found.image, found.label, found.xywh, found.confidence, strict=True)
    ]
    for index in np.flatnonzero(found.overflowed):
        box = [value if math.isfinite(value) else None for value in rows[index]["bbox"]]
        rows[index] |= {"bbox": box, "overflowed": True}
    return rows


def _box_fault(row: dict[str, Any]) -> str:
    box, score = row.get("bbox"), row.get("score")
    overflowed = row.get("overflowed") is True
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) or (overflowed and value is None) for value in box):
        return f"bbox is {box!r}, expected four numbers x, y, width, height"
    return "" if _is_number(score) else f"score is {score!r}, expected a number in [0, 1]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
