"""Segmentation: a mask per class, learned from masks, scored by overlap, stored as run-length codes per image."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from benchmark.cards import DatasetCard, Job, PromptCard, TaskCard
from benchmark.errors import UsageError
from benchmark.imaging import coco_rle
from benchmark.kinds.base import Example, Frames, Part, Predicted, ScoredSplit, StoredForm, TrainedKind, warnings_of
from benchmark.kinds.kit import coco_json, columnar, drawing, heading, original_masks, submitted
from benchmark.kinds.kit.drawing import PREDICTION, SIDE, TAG, TRUTH
from benchmark.kinds.kit.heading import Heading
from benchmark.kinds.kit.original_masks import BothCodes, Codes
from benchmark.kinds.kit.stored import N_EXAMPLES
from benchmark.metrics import dice, mask_statistics, scores
from benchmark.metrics.anchors import dice_anchors
from benchmark.metrics.columns import Lists, identical
from benchmark.metrics.scores import Scores

if TYPE_CHECKING:
    import torch

    from benchmark.heads.base import Head, Targets
    from benchmark.imaging.geometry import Frame

MASKS_FILE = "masks.parquet"
MASKS_JSON = "masks.json"  # what earlier releases stored, and what people are given
FRAME_CODES, ORIGINAL_CODES = "counts", "original_counts"  # columns
_CHUNK = 64  # images whose masks are decoded at once


class Segmentation(TrainedKind):
    """Heads predict (B, C, S, S) probabilities; a pixel at 0.5 or more is of the class."""

    name = "segmentation"
    target = "masks"
    stored_as: ClassVar[StoredForm] = columnar
    shows_classes = True
    drawn_from = (MASKS_FILE, MASKS_JSON)
    earlier_forms: ClassVar[Mapping[str, str]] = {MASKS_JSON: MASKS_FILE}
    moves_with_images = True
    later_switches = frozenset({"scored_in"})

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        return mask_statistics.FIELDS - (frozenset() if dataset.mask_source == "masks" else {"surfaces"})

    def n_positive(self, part: Part) -> int:
        return sum(int(part.masks(np.array([i])).any()) for i in range(len(part)))

    def targets(self, part: Part, index: np.ndarray, device: torch.device) -> Targets:
        import torch

        from benchmark.heads.base import Targets

        masks = part.masks(index)
        masks = masks if part.augmentation is None else part.augmentation.masks(masks, index.tolist())
        return Targets(masks=torch.from_numpy(masks).to(device, dtype=torch.float32))

    def validate(self, predicted: Predicted, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, float]:
        counts = [dice.count_overlap(dice.binarise(_probabilities(found)), part.masks(index)) for index, found in predicted]
        return scores.segmentation_selection(dice.join(counts), class_names)

    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> ScoredSplit:
        codes: Codes = []  # of the whole split, of which neither probabilities nor masks are kept

        def chunks() -> Iterator[np.ndarray]:
            for _, found in predicted:
                probabilities = _probabilities(found)
                codes.extend(encode(dice.binarise(probabilities)))
                yield probabilities

        true_masks = card.mask_source == "masks"
        if part.originals is None:
            scored = scores.score_segmentation(chunks(), part.true_masks, card.classes, true_masks, batch_size)
            return ScoredSplit(scored.metrics, scored.statistics, codes, warnings_of(scored))
        both = BothCodes(codes, [])
        scored = scores.score_masks(original_masks.scored(chunks(), part, both.original), card.classes, true_masks, batch_size)
        return ScoredSplit(scored.metrics, scored.statistics, both, warnings_of(scored))

    def anchors(self, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, dict[str, float]]:
        if part.originals is not None:
            return original_masks.dice_anchors(part, class_names, head.grid)
        return dice_anchors(part.true_masks, class_names, head.grid)

    def store(self, folder: Path, job: Job, part: Part, predictions: Codes | BothCodes) -> None:
        """Writes masks that were encoded batch by batch, so that those of a whole test split never lie in memory as pixels."""
        codes, original = predictions if isinstance(predictions, BothCodes) else (predictions, None)
        write_masks(folder / MASKS_FILE, heading.of(job, part), codes, original)

    def examples(self, part: Part, predictions: Any) -> dict[str, np.ndarray] | None:
        """The first images with a mask, in the split's order."""
        positive = (i for i in range(len(part)) if part.masks(np.array([i])).any())
        index = np.array(list(itertools.islice(positive, N_EXAMPLES)), np.int64)
        return {"index": index, "images": part.images(index).numpy(), "masks": part.masks(index)} if len(index) else None

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        given = open_masks(file, card.classes)
        submitted.require_same_images(file, given.ids, part, card)
        submitted.require_frame(file, given.frame, part)
        in_file = np.argsort(submitted.positions(given.ids, part)).tolist()
        true_masks = card.mask_source == "masks"
        if part.originals is None:
            chunks = (given.masks(in_file[start : start + _CHUNK]).astype(np.float32) for start in range(0, len(part), _CHUNK))
            found = scores.score_segmentation(chunks, part.true_masks, card.classes, true_masks)
        else:
            images = original_masks.scored_again(lambda i, frame: given.on_original(in_file[i], frame), part)
            found = scores.score_masks(images, card.classes, true_masks)
        # A binary mask has no ranking of pixels: the average precision of the run cannot be recomputed from it.
        found.metrics.pop("pixel_ap", None)
        found.undefined["pixel_ap"] = "predictions are stored as masks, without probabilities"
        return found

    def convert(self, file: Path, into: Path) -> None:
        content = coco_json.load(file)
        about, given = coco_json.heading_in(file, content), _of_json(file, content, None)
        write_masks(into, about, [[given.text(i, c).encode() for c in range(given.n_classes)] for i in range(len(given.ids))])
        written, again = columnar.heading_of(into), open_masks(into)
        whole = {**coco_json.headed(written), "annotations": _annotations(again)}
        if not identical(about, written) or whole != coco_json.as_of_today(content):
            raise UsageError(f"{file} holds more than {MASKS_FILE} would: it was not written by LOBE, or edited.")

    def export(self, file: Path, frame: Frames) -> tuple[str, bytes] | None:
        if file.name not in self.drawn_from:
            return None
        found, about = open_masks(file), columnar.heading_of(file)
        rows = _annotations(found)
        if frame == "original":
            about, rows = replace(about, frame=frame), _in_original_pixels(found, heading.frames_of(file, about))
        content = {**coco_json.headed(about), "annotations": rows}
        return MASKS_JSON, json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image.Image]:
        (file,) = files.values()
        masks, _, _ = read_masks(file, [example.index for example in examples])
        for example, mask in zip(examples, masks, strict=True):
            yield draw_segmentation(example.image, example.true_masks, mask, class_names=class_names, note=note)


KIND = Segmentation()


@dataclass(frozen=True)
class StoredMasks:
    """A file of masks, not yet decoded.

    Attributes:
        codes: by place of the image and class: what stands in the file, and where, for sentences.
        original: likewise of masks in original pixels, in files of jobs that were scored there.
    """

    path: Path
    ids: tuple[str, ...]
    frame: str
    n_classes: int
    codes: Mapping[tuple[int, int], tuple[object, str]]
    original: Mapping[tuple[int, int], tuple[bytes, str]] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Pixels of the frame."""
        return heading.side_of(self.path, self.frame)

    def masks(self, images: Sequence[int]) -> np.ndarray:
        """(n, C, S, S) bool of some images; one without a code is empty. Raises UsageError for a code that is none of the frame."""
        found = np.zeros((len(images), self.n_classes, self.side, self.side), bool)
        for place, image in enumerate(images):
            for label in range(self.n_classes):
                if (image, label) in self.codes:
                    found[place, label] = coco_rle.decode(*self._segmentation(image, label))
        return found

    def on_original(self, image: int, frame: Frame) -> np.ndarray:
        """(C, height, width) bool of one image: as it was scored where the file has that, else the frame's masks mapped back.

        Raises UsageError for a code that is none of an image of that size.
        """
        if (image, 0) not in self.original:
            return original_masks.mapped_back(self.masks([image])[0].astype(np.float32), frame)
        size, given = (frame.height, frame.width), [self.original[image, label] for label in range(self.n_classes)]
        return np.stack([coco_rle.decode({"size": size, "counts": code.decode("latin-1")}, size, where) for code, where in given])

    def text(self, image: int, label: int) -> str:
        """COCO's compressed code of a mask. Raises UsageError where there is none, or another form of it."""
        segmentation, where = self.codes.get((image, label), (None, f"{self.path}, image {image + 1:,} ({self.ids[image]})"))
        counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
        if not isinstance(counts, str) or not counts.isascii():
            raise UsageError(f"{where}: no compressed run-length code, as LOBE writes for every image and class.")
        return counts

    def _segmentation(self, image: int, label: int) -> tuple[object, int, str]:
        segmentation, where = self.codes[image, label]
        return segmentation, self.side, where


def encode(masks: np.ndarray) -> Codes:
    """Run-length codes of (N, C, S, S) bool masks."""
    return [coco_rle.encode(image) for image in masks]


def write_masks(path: Path, about: Heading, codes: Codes, original: Codes | None = None) -> None:
    """Writes a list of codes per image, one per class.

    Args:
        original: the same masks in original pixels, where they were scored there.
    """
    columnar.write(path, about, {FRAME_CODES: _column(codes)} | ({} if original is None else {ORIGINAL_CODES: _column(original)}))


def open_masks(path: Path, classes: Sequence[str] | None = None, images: Sequence[int] | None = None) -> StoredMasks:
    """The masks of a file of columns, or of COCO-style JSON. Nothing is decoded yet.

    Args:
        classes: names that the file's classes must have, in any order; None takes the file's.
        images: places in the file of those wanted; None for all. Of columns, no others are read.

    Raises:
        FrameMismatch: the file does not say in which square frame it was measured.
        UsageError: the file is not one of masks, or one of its rows makes no sense; the row is named.
    """
    if not columnar.is_one(path):
        return _of_json(path, coco_json.load(path), classes)
    with columnar.opened(path, classes) as given:
        side = heading.side_of(path, given.frame)
        codes: dict[tuple[int, int], tuple[object, str]] = {
            place: ({"size": [side, side], "counts": code.decode("latin-1")}, where)
            for place, (code, where) in given.codes(FRAME_CODES, images).items()
        }
        original = given.codes(ORIGINAL_CODES, images) if ORIGINAL_CODES in given.file.names else {}
        return StoredMasks(path, given.ids, given.frame, len(given.places), codes, original)


def read_masks(
    path: Path, wanted: Sequence[int] | None = None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Masks of a file, decoded; arguments and errors as of `open_masks`.

    Returns:
        (N, C, S, S) bool in the order of `wanted`, the ids of all images in order, and the frame.
    """
    found = open_masks(path, classes, wanted)
    return found.masks(range(len(found.ids)) if wanted is None else wanted), found.ids, found.frame


def draw_segmentation(
    image: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    class_names: Sequence[str] = (),
    note: str = "",
) -> Image.Image:
    """Mask outlines over one image; the predicted area is tinted, the true one is not.

    Args:
        image: (S, S) uint8, grey.
        truth, predicted: (C, S, S) bool; with `class_names` every outline, true and predicted, carries its class.
    """
    picture, pen = drawing.canvas(image)
    scale = SIDE / image.shape[0]
    tint = np.asarray(predicted, dtype=bool).any(axis=0)
    if tint.any():
        area = Image.fromarray((tint * 60).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        picture.paste(Image.new("RGB", (SIDE, SIDE), PREDICTION), (0, 0), area)
    for masks, colour, dashed in ((truth, TRUTH, False), (predicted, PREDICTION, True)):
        for channel, mask in enumerate(np.asarray(masks, dtype=bool)):
            for outline in drawing.outlines(mask):
                points = outline * scale
                drawing.dashed(pen, points, colour) if dashed else pen.line([tuple(p) for p in points], fill=colour, width=2)
                if class_names:  # truth at its top, prediction at its bottom, so that both can be read where they agree
                    top, bottom = points[points[:, 1].argmin()], points[points[:, 1].argmax()]
                    place = (bottom[0], bottom[1] + TAG) if dashed else (top[0], top[1])
                    drawing.tag(pen, place, class_names[channel], colour)
    drawing.legend(pen, f"truth ({drawing.share(truth)} of the image)", f"prediction ({drawing.share(predicted)})", note)
    return picture


def _probabilities(found: torch.Tensor) -> np.ndarray:
    return found.float().cpu().numpy()


def _column(codes: Codes) -> Lists:
    import pyarrow as pa

    counts = np.array([len(each) for each in codes], np.int64)
    return Lists(counts, pa.array([code for each in codes for code in each], pa.binary()))


def _of_json(path: Path, content: dict[str, Any], classes: Sequence[str] | None) -> StoredMasks:
    side = heading.side_of(path, content["frame"])
    names, index = coco_json.images(path, content)
    category = coco_json.categories(path, content, classes)
    codes: dict[tuple[int, int], tuple[object, str]] = {}
    first: dict[tuple[int, int], int] = {}
    rows = coco_json.rows(path, content)
    for k, row in enumerate(rows, start=1):
        try:
            image, label = index[row["image_id"]], category[row["category_id"]]
        except (KeyError, TypeError):
            fault = coco_json.first_fault(path, rows, index, category, _no_fault)
            raise fault or UsageError(f"{path}, annotation {k:,}: cannot be read.") from None
        where = f"{path}, annotation {k:,} ({names[image]})"
        if first.setdefault((image, label), k) != k:
            raise UsageError(
                f"{where}: a second mask of category {row['category_id']}, first in annotation {first[image, label]:,}. "
                "There is one mask an image and class: join them."
            )
        coco_rle.parts(row.get("segmentation"), side, where)
        codes[image, label] = row.get("segmentation"), where
    return StoredMasks(path, names, content["frame"], len(category), codes)


def _annotations(found: StoredMasks) -> list[dict[str, Any]]:
    """Rows of COCO's result file, one for each image and class."""
    side = found.side
    return [
        {"image_id": i + 1, "category_id": c + 1, "segmentation": {"size": [side, side], "counts": found.text(i, c)}}
        for i in range(len(found.ids))
        for c in range(found.n_classes)
    ]


def _in_original_pixels(found: StoredMasks, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """As `_annotations`, each mask on its original image: as it was scored there, else the pixels of the frame that lie over it."""
    rows = []
    for i, frame in enumerate(frames):
        if (i, 0) in found.original:
            codes = original_masks.encode(found.on_original(i, frame))
        else:
            (codes,) = encode(frame.masks_to_original(found.masks([i])[0])[None])
        size = [frame.height, frame.width]
        rows += [
            {"image_id": i + 1, "category_id": c + 1, "segmentation": {"size": size, "counts": code.decode()}}
            for c, code in enumerate(codes)
        ]
    return rows


def _no_fault(row: dict[str, Any]) -> str:
    return ""
