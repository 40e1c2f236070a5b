"""Maps from labels: a classifier learns from whole-image labels, and its maps are scored against masks (`metrics.class_maps`).

Where maps are cut is chosen anew after every epoch on the validation images, in pixels of the frame; the test compares in original pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmark.cards import DatasetCard, Experiment, Job
from benchmark.errors import DataError, TrainingError
from benchmark.imaging.geometry import Frame
from benchmark.kinds.base import Example, Part, Predicted, ScoredSplit, StoredForm, TrainedKind, warnings_of
from benchmark.kinds.kit import class_scores, drawing, parquet
from benchmark.kinds.kit.stored import N_EXAMPLES
from benchmark.metrics import class_maps, scores
from benchmark.metrics.class_maps import COLUMNS, OF_CLASSES, UNTUNED, Cut
from benchmark.readers.base import Sample

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from benchmark.heads.base import Head, Targets
    from benchmark.heads.networks.class_map import ClassMap

MAPS_FILE = "class-maps.parquet"


@dataclass(frozen=True)
class Outlined:
    """What a part keeps of its samples.

    Attributes:
        labels: (N, C) int8 of 1, 0 and -1 (unknown).
        draw: per image, call with its height and width for (C, H, W) bool; None for images that only train.
    """

    labels: np.ndarray
    draw: tuple[Callable[[tuple[int, int]], np.ndarray] | None, ...]

    def masks(self, image: int, frame: Frame) -> np.ndarray:
        """(C, H, W) bool of an image in original pixels. Raises DataError where it has none."""
        draw = self.draw[image]
        if draw is None:
            raise DataError("A validation or test image has no masks, with which maps are compared. Mend the dataset's reader.")
        return frame.at_image_size(draw((frame.height, frame.width)))


class ClassMaps(TrainedKind):
    """Heads predict (B, C, g, g) logits, whose means are the logits of whole images."""

    name = "maps from labels"
    target = class_maps.TARGET
    stored_as: ClassVar[StoredForm] = parquet
    shows_classes = True

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> Outlined:
        return Outlined(class_scores.labels_of(samples), tuple(sample.masks for sample in samples))

    def n_positive(self, part: Part) -> int:
        return int((part.annotations.labels == 1).any(axis=1).sum())

    def prepare(self, part: Part) -> list[dict[int, np.ndarray]]:
        """Per image: class -> mask that is not empty, as the part of the frame that the image fills."""
        found = []
        for i, frame in enumerate(part.cache.frames(part.rows)):
            there = np.flatnonzero(part.annotations.labels[i] == 1)
            masks = part.annotations.masks(i, frame)[there] if len(there) else np.zeros((0, frame.height, frame.width), bool)
            rows, columns = _filled(frame)
            inside = frame.place_masks(masks)[:, rows, columns]
            found.append({int(label): mask for label, mask in zip(there, inside, strict=True) if mask.any()})
        return found

    def targets(self, part: Part, index: np.ndarray, device: torch.device) -> Targets:
        import torch

        from benchmark.heads.base import Targets

        return Targets(labels=torch.from_numpy(part.annotations.labels[index]).to(device, dtype=torch.float32))

    def validate(self, predicted: Predicted, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, float]:
        """Chooses where maps are cut, which the head keeps; gives these cuts, and the AUROC of whole images."""
        shape = (len(part), len(class_names))
        overlap = np.full((*shape, len(class_maps.THRESHOLDS)), np.nan)
        confidence, given = np.zeros(shape), np.zeros(shape)
        for i, maps, probability in _each(predicted):
            given[i] = probability
            whole = _in_frame(maps, part.cache.frames(part.rows[i : i + 1])[0])
            confidence[i] = np.where(np.ptp(whole.reshape(len(whole), -1), axis=1) > 0, probability, 0)
            for label, inside in part.prepared[i].items():
                overlap[i, label] = class_maps.overlaps(whole[label], inside)
        cuts = [class_maps.chosen(overlap[:, label], confidence[:, label]) for label in range(len(class_names))]
        _cutting(head).keep_cuts(cuts)
        told = {
            f"{name}_{what}": value for name, cut in zip(class_names, cuts, strict=True) if cut for what, value in cut._asdict().items()
        }
        return _of_images(given, part, class_names) | told

    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> ScoredSplit:
        """
        Raises:
            TrainingError: no validation image told where to cut, as of a head that was never validated.
        """
        from benchmark.heads.grounding import to_original

        kept = _cutting(head).kept_cuts()
        if not any(kept):
            raise TrainingError("Nothing says where the maps are cut: the head was not validated on an image with a mask.")
        cuts, frames, given, every = [cut or Cut(*UNTUNED) for cut in kept], part.cache.frames(part.rows), [], []
        rows: list[tuple[int, int, np.ndarray]] = []
        for i, maps, probability in _each(predicted):
            given.append(probability)
            every.append(maps.numpy())
            there = part.annotations.labels[i] == 1
            masks = part.annotations.masks(i, frames[i]) if there.any() else None
            for label, cut in enumerate(cuts):
                if masks is not None and masks[label].any():
                    values = class_maps.located(to_original(maps[label], frames[i]), masks[label], cut, probability[label])
                    rows.append((i, label, values))
                elif (nothing := class_maps.not_there(maps[label].numpy(), cut, probability[label])) is not None:
                    rows.append((i, label, nothing))
        found = _scored(rows, part, card.classes)
        unsaid = [name for name, cut in zip(card.classes, kept, strict=True) if cut is None]
        untuned = (f"no validation image has {', '.join(unsaid)}: cut at {UNTUNED[0]} of the map, in every image",) if unsaid else ()
        means = _means_of_classes(found.metrics, card.classes)
        metrics = found.metrics | means | _of_images(np.stack(given), part, card.classes)
        return ScoredSplit(metrics, found.statistics, np.stack(every), (*warnings_of(found), *untuned))

    def store(self, folder: Path, job: Job, part: Part, predictions: np.ndarray) -> None:
        """Writes (id, height, width, map): the logits of every class, class after class and row by row, over the padded frame."""
        import pyarrow as pa

        n_images, _, height, width = predictions.shape
        columns = {
            "id": pa.array(part.ids, pa.string()),
            "height": np.full(n_images, height, np.int32),
            "width": np.full(n_images, width, np.int32),
            "map": pa.array([image.reshape(-1).tolist() for image in predictions], pa.list_(pa.float32())),
        }
        dataset = job.experiment.dataset
        parquet.write(folder / MAPS_FILE, job, columns, split=dataset.split, split_rule=dataset.split_rule.rule)

    def examples(self, part: Part, predictions: np.ndarray) -> dict[str, np.ndarray] | None:
        """The first images with a mask, each with the map of its first finding."""
        index = np.array(list(itertools.islice((i for i in range(len(part)) if len(part.labels[i])), N_EXAMPLES)), np.int64)
        if not len(index):
            return None
        labels = [int(part.labels[i].min()) for i in index]
        boxes = [part.boxes[i][part.labels[i] == label] for i, label in zip(index, labels, strict=True)]
        return {
            "index": index,
            "images": part.images(index).numpy(),
            "similarity": predictions[index, labels],
            "boxes_xywh": np.concatenate(boxes),
            "box_owner": np.repeat(np.arange(len(index)), [len(one) for one in boxes]),
        }

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image]:
        for example in examples:
            yield drawing.draw_similarity(example.image, example.true_boxes_xywh, example.asked_similarity, note=note)


KIND = ClassMaps()


def _cutting(head: Head) -> ClassMap:
    """The head, which keeps where its maps are cut. Raises TypeError for one that does not."""
    from benchmark.heads.networks.class_map import ClassMap

    if not isinstance(head, ClassMap):
        raise TypeError(f"{type(head).__name__} does not keep where maps are cut; maps from labels need ClassMap, or what derives from it.")
    return head


def _each(predicted: Predicted) -> Iterator[tuple[int, torch.Tensor, np.ndarray]]:
    """Place, (C, g, g) float32 logits and (C,) float64 probabilities of every image, in order."""
    for index, found in predicted:
        maps = found.float().cpu()
        probabilities = maps.double().mean(dim=(2, 3)).sigmoid().numpy()
        yield from ((int(i), one, probability) for i, one, probability in zip(index, maps, probabilities, strict=True))


def _in_frame(maps: torch.Tensor, frame: Frame) -> np.ndarray:
    """(C, h, w) float32 over the part of the frame that the image fills: bilinear from the cells."""
    from torch.nn import functional as F

    whole = F.interpolate(maps[None], size=(frame.size, frame.size), mode="bilinear", align_corners=False)[0].numpy()
    rows, columns = _filled(frame)
    found: np.ndarray = whole[:, rows, columns]
    return found


def _filled(frame: Frame) -> tuple[slice, slice]:
    """Rows and columns of the frame that hold the image, without its padding."""
    top, left = round(frame.pad_top * frame.scale_y), round(frame.pad_left * frame.scale_x)
    return slice(top, max(frame.size - top, top + 1)), slice(left, max(frame.size - left, left + 1))


def _of_images(probabilities: np.ndarray, part: Part, class_names: Sequence[str]) -> dict[str, float]:
    """The mean AUROC of classes that can be ranked, where there is one."""
    found = scores.classification_selection(probabilities, part.annotations.labels, class_names, exclusive=False)
    return {name: found[name] for name in ("auroc",) if name in found}


def _scored(rows: Sequence[tuple[int, int, np.ndarray]], part: Part, class_names: Sequence[str]) -> scores.Scores:
    """All columns of all rows of (image, class, values of `COLUMNS`), with those of single classes."""
    if not rows:
        raise DataError(f"{part.cache.recipe.dataset}: no test image has a mask, and no map finds anything.")
    image, label = (np.array([row[k] for row in rows], np.int64) for k in range(2))
    values = np.stack([row[2] for row in rows])
    columns = dict(zip(COLUMNS, values.T, strict=True))
    for what in OF_CLASSES if len(class_names) > 1 else ():
        columns |= {f"{name}_{what}": np.where(label == k, columns[what], np.nan) for k, name in enumerate(class_names)}
    return scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), image, len(part))


def _means_of_classes(metrics: Mapping[str, float], class_names: Sequence[str]) -> dict[str, float]:
    """Each finding counts alike, as in the benchmark's tables, where it is there."""
    means: dict[str, float] = {}
    for what in OF_CLASSES if len(class_names) > 1 else ():
        each = [metrics[f"{name}_{what}"] for name in class_names if f"{name}_{what}" in metrics]
        means |= {f"mean_{what}": float(np.mean(each))} if each else {}
    return means
