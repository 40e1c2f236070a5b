"""Segmentation: a mask per class, learned from masks, scored by overlap, stored as COCO run-length codes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from benchmark.cards import DatasetCard, Job, PromptCard, TaskCard
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.base import Example, Part, Predicted, StoredForm, Tested, TrainedKind, warnings_of
from benchmark.kinds.kit import coco_json, coco_rle, drawing, submitted
from benchmark.kinds.kit.drawing import PREDICTION, SIDE, TAG, TRUTH
from benchmark.kinds.kit.stored import N_EXAMPLES, dump
from benchmark.metrics import dice, mask_statistics, scores
from benchmark.metrics.anchors import dice_anchors
from benchmark.metrics.scores import Scores

if TYPE_CHECKING:
    import torch

    from benchmark.heads.base import Head, Targets

MASKS_FILE = "masks.json"


class Segmentation(TrainedKind):
    """Heads predict (B, C, S, S) probabilities; a pixel at 0.5 or more is of the class."""

    name = "segmentation"
    target = "masks"
    stored_as: ClassVar[StoredForm] = coco_json
    shows_classes = True
    drawn_from = (MASKS_FILE,)
    moves_with_images = True

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        return mask_statistics.PARTS - (frozenset() if dataset.mask_source == "masks" else {"surfaces"})

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

    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> Tested:
        codes: list[list[bytes]] = []  # of the whole split, of which neither probabilities nor masks are kept

        def chunks() -> Iterator[np.ndarray]:
            for _, found in predicted:
                probabilities = _probabilities(found)
                codes.extend(coco_rle.encode(masks) for masks in dice.binarise(probabilities))
                yield probabilities

        scored = scores.score_segmentation(chunks(), part.true_masks, card.classes, card.mask_source == "masks", batch_size)
        return Tested(scored.metrics, scored.statistics, codes, warnings_of(scored))

    def anchors(self, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, dict[str, float]]:
        return dice_anchors(part.true_masks, class_names, head.grid)

    def store(self, folder: Path, job: Job, part: Part, predictions: Sequence[Sequence[bytes]]) -> None:
        """Writes masks, given as the run-length code of each image and class (`coco_rle.encode`)."""
        rows = _annotations(predictions, part.cache.recipe.size)
        dump(folder / MASKS_FILE, {**coco_json.header(job, part), "annotations": rows})

    def examples(self, part: Part, predictions: Any) -> dict[str, np.ndarray] | None:
        """The first images with a mask, in the split's order."""
        positive = (i for i in range(len(part)) if part.masks(np.array([i])).any())
        index = np.array(list(itertools.islice(positive, N_EXAMPLES)), np.int64)
        return {"index": index, "images": part.images(index).numpy(), "masks": part.masks(index)} if len(index) else None

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        masks, ids, frame = read_masks(file, classes=card.classes)
        submitted.require_same_images(file, ids, part, card)
        submitted.require_frame(file, frame, part)
        placed = np.empty_like(masks)
        placed[submitted.positions(ids, part)] = masks
        certain = (masks.astype(np.float32) for masks in placed[:, None])  # image by image: floats of all would fill memory
        found = scores.score_segmentation(certain, part.true_masks, card.classes, true_masks=card.mask_source == "masks")
        # A binary mask has no ranking of pixels: the average precision of the run cannot be recomputed from it.
        found.metrics.pop("pixel_ap", None)
        found.undefined["pixel_ap"] = "predictions are stored as masks, without probabilities"
        return found

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image.Image]:
        masks, _, _ = read_masks(files[MASKS_FILE], [example.index for example in examples])
        for example, mask in zip(examples, masks, strict=True):
            yield draw_segmentation(example.image, example.true_masks, mask, class_names=class_names, note=note)


KIND = Segmentation()


def read_masks(
    path: Path, wanted: Sequence[int] | None = None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Masks of a file. An image and class without a row has an empty mask.

    Args:
        wanted: positions of images to decode; None = all.
        classes: names that the file's categories must have, in any order; None takes the file's.

    Returns:
        (N, C, S, S) bool in the order of `wanted`, the ids of all images in order, and the frame.

    Raises:
        FrameMismatch: the file does not say in which square frame it was measured.
        UsageError: the file is not one of masks, or one of its rows makes no sense; the row is named.
    """
    content = coco_json.load(path)
    size = _side(path, content["frame"])
    names, index = coco_json.images(path, content)
    category = coco_json.categories(path, content, classes)
    place = {image: k for k, image in enumerate(range(len(names)) if wanted is None else wanted)}
    masks = np.zeros((len(place), len(category), size, size), bool)
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
        if image in place:
            masks[place[image], label] = coco_rle.decode(row.get("segmentation"), size, where)
    return masks, names, content["frame"]


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


def _annotations(codes: Sequence[Sequence[bytes]], size: int) -> list[dict[str, Any]]:
    return [
        {"image_id": i + 1, "category_id": c + 1, "segmentation": {"size": [size, size], "counts": code.decode()}}
        for i, of_image in enumerate(codes)
        for c, code in enumerate(of_image)
    ]


def _side(path: Path, frame: str) -> int:
    """Pixels of a frame such as "padded-224"."""
    side = frame.rpartition("-")[2] if isinstance(frame, str) else ""
    if not side.isdecimal() or int(side) == 0:
        raise FrameMismatch(f'{path} was measured in frame {frame!r}; masks are in a square frame such as "padded-224". Map them first.')
    return int(side)


def _no_fault(row: dict[str, Any]) -> str:
    return ""
