"""Grounding: where an image's places are near to a phrase; maps are made and scored in `heads.grounding`, and stored before upsampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmark.cards import DatasetCard, Experiment, HeadFacts, Job, PromptCard, TaskCard, Words
from benchmark.errors import DataError
from benchmark.kinds.base import Example, Part, ScoredSplit, StoredForm, warnings_of
from benchmark.kinds.kit import drawing, parquet
from benchmark.kinds.kit.stored import N_EXAMPLES
from benchmark.kinds.kit.untrained import UntrainedKind, truncation_warnings
from benchmark.metrics import grounding, scores
from benchmark.readers.base import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from benchmark.imaging.geometry import Frame
    from benchmark.kinds.kit.embedding import UntrainedJob

MAPS_FILE = "maps.parquet"


FACTS = HeadFacts(title="grounding", target="phrases", trains=False)


@dataclass(frozen=True)
class Found:
    """The maps of all phrases, in the order of their images.

    Attributes:
        owner: image of each phrase, as its place in the part.
        category: the finding of each.
        groups: in which the release puts each; empty where it does not.
        boxes: (n, 4) of each, xywh in original pixels.
        maps: (h, w) float32 cosine of each over the padded frame.
    """

    owner: list[int]
    category: list[str]
    groups: list[tuple[str, ...]]
    boxes: list[np.ndarray]
    maps: list[np.ndarray]


class Grounding(UntrainedKind):
    """Phrases are a sample's own, or its boxed or outlined classes in the words of prompts."""

    name = "grounding"
    target = "phrases"
    stored_as: ClassVar[StoredForm] = parquet
    asks_every_image = True
    shows_classes = True
    reads = frozenset({"prompts", "found_in", "told_apart"})

    def needed(self, words: Words | None) -> str:
        """Boxes or masks, where a class is asked for in the words of prompts."""
        return words.found_in if words is not None and words.prompts is not None else self.target

    def question_faults(self, words: Words, dataset: DatasetCard | None) -> list[str]:
        if words.found_in == "masks" and words.prompts is None:
            return ["found_in` is masks, and a phrase of an image has boxes: name `prompts` that ask for the classes."]
        if words.told_apart == "groups" and words.prompts is not None:
            return ["told_apart` is groups, in which a release puts its own phrases: leave out `prompts`, which ask for the classes."]
        return []

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        return frozenset({grounding.MASKS}) if task.words is not None and task.words.found_in == "masks" else frozenset()

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> tuple[Sample, ...]:
        """The samples, for their phrases and boxes in original pixels."""
        return tuple(samples)

    def answer(self, given: UntrainedJob) -> ScoredSplit:
        from benchmark.heads.grounding import score_mask, score_phrase, similarity_maps

        part, names = given.parts["test"], given.experiment.dataset.classes
        frames = part.cache.frames(part.rows)
        questions = [_questions(given.experiment, sample) for sample in part.annotations]
        texts = list(dict.fromkeys(text for image in questions for one in image for text in one.texts))
        if not texts:
            raise DataError(f"{given.experiment.dataset.name}: no test image has a phrase with a box.")
        asked = given.texts(texts)
        embedded, column = given.backbone.among_places(asked), {text: k for k, text in enumerate(texts)}
        words = given.experiment.words
        by_mask = words is not None and words.found_in == "masks"
        kept, rows = Found([], [], [], [], []), []
        for index, seen in given.images(part):
            for i, places in zip(index, seen.local, strict=True):
                masks = _masks(part.annotations[i], frames[i]) if by_mask and questions[i] else {}
                for one in questions[i]:
                    each = similarity_maps(places, embedded[[column[text] for text in one.texts]])
                    similarity = each.mean(dim=0).cpu()
                    if by_mask:
                        rows.append(score_mask(similarity, masks[names.index(one.category)], frames[i]))
                    else:
                        rows.append(score_phrase(similarity, one.boxes_xywh, frames[i]))
                    kept.owner.append(int(i))
                    kept.category.append(one.category)
                    kept.groups.append(one.groups)
                    kept.boxes.append(one.boxes_xywh)
                    kept.maps.append(similarity.numpy())
        values, counted = np.stack(rows), {"n_phrases": float(len(rows))}
        listed = (*grounding.COLUMNS, *(grounding.MASK_COLUMNS if by_mask else ()))
        columns = {name: values[:, k] for k, name in enumerate(listed)}
        if words is not None and words.told_apart == "groups":
            of_each, counted = _of_groups(columns, kept.groups, given.experiment.dataset.name), counted | _counts_of(kept.groups)
        else:
            of_each = _of_classes(columns, np.array(kept.category), names, ("cnr", *(("mask_iou",) if by_mask else ())))
        columns |= of_each
        found = scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), np.array(kept.owner), len(part))
        warnings = (*warnings_of(found), *truncation_warnings(asked.n_truncated, len(texts), "phrases"))
        return ScoredSplit(found.metrics | counted, found.statistics, kept, warnings)

    def store(self, folder: Path, job: Job, part: Part, predictions: Found) -> None:
        """Writes (id, category, height, width, map): the cosine of each phrase over the padded frame, row by row."""
        import pyarrow as pa

        maps = predictions.maps
        columns = {
            "id": pa.array([part.ids[i] for i in predictions.owner], pa.string()),
            "category": pa.array(list(predictions.category), pa.string()),
            "height": pa.array([m.shape[0] for m in maps], pa.int32()),
            "width": pa.array([m.shape[1] for m in maps], pa.int32()),
            "map": pa.array([m.astype(np.float32).reshape(-1).tolist() for m in maps], pa.list_(pa.float32())),
        }
        parquet.write(folder / MAPS_FILE, job, columns)

    def examples(self, part: Part, predictions: Found) -> dict[str, np.ndarray] | None:
        """The first phrase of each of the first images that were asked for one."""
        owner = predictions.owner
        chosen = [owner.index(image) for image in dict.fromkeys(owner)][:N_EXAMPLES]
        if not chosen:
            return None
        index = np.array([owner[k] for k in chosen], np.int64)
        frames = part.cache.frames(part.rows[index])
        shown = [f.to_frame(predictions.boxes[k]).astype(np.float32).reshape(-1, 4) for k, f in zip(chosen, frames, strict=True)]
        return {
            "index": index,
            "images": part.images(index).numpy(),
            "similarity": np.stack([predictions.maps[k] for k in chosen]).astype(np.float32),
            "boxes_xywh": np.concatenate(shown),
            "box_owner": np.repeat(np.arange(len(index)), [len(b) for b in shown]),
        }

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image]:
        for example in examples:
            yield drawing.draw_similarity(example.image, example.true_boxes_xywh, example.asked_similarity, note=note)


KIND = Grounding()


@dataclass(frozen=True)
class _Question:
    """What is looked for in one image: texts (several ask for the same) and its boxes in original pixels."""

    texts: tuple[str, ...]
    boxes_xywh: np.ndarray
    category: str
    groups: tuple[str, ...] = ()


def _of_classes(
    columns: Mapping[str, np.ndarray], categories: np.ndarray, names: Sequence[str], wanted: Sequence[str]
) -> dict[str, np.ndarray]:
    """Columns of each class, NaN for phrases of another; none for a single class."""
    several = names if len(names) > 1 else ()
    return {f"{name}_{what}": np.where(categories == name, columns[what], np.nan) for what in wanted for name in several}


def _of_groups(columns: Mapping[str, np.ndarray], groups: Sequence[tuple[str, ...]], dataset: str) -> dict[str, np.ndarray]:
    """Columns of each group that a phrase is in, by name; a phrase of several is in the columns of each.

    Raises:
        DataError: no phrase is in a group, or a group's name is that of another column.
    """
    names = sorted({name for each in groups for name in each})
    if not names:
        raise DataError(f"{dataset}: the task tells groups apart, and the release puts no phrase of a test image into one.")
    inside = {name: np.array([name in each for each in groups]) for name in names}
    found = {f"{name}_{what}": np.where(inside[name], columns[what], np.nan) for what in grounding.OF_GROUPS for name in names}
    if taken := sorted(found.keys() & columns.keys()):
        raise DataError(f"{dataset}: a label group's column {taken[0]} has the name of another column; rename the group in the table.")
    return found


def _counts_of(groups: Sequence[tuple[str, ...]]) -> dict[str, float]:
    return {"n_groups": float(len({name for each in groups for name in each})), "n_ungrouped": float(sum(not each for each in groups))}


def _masks(sample: Sample, frame: Frame) -> dict[int, np.ndarray]:
    """Class index -> (H, W) bool mask in original pixels, of classes that have one."""
    if sample.masks is None:
        raise DataError(f"{sample.id}: the task compares with masks, and the image has none.")
    return {label: mask for label, mask in enumerate(sample.masks((frame.height, frame.width))) if mask.any()}


def _questions(experiment: Experiment, sample: Sample) -> list[_Question]:
    """The sample's own phrases, or each of its boxed classes in the words of the prompts."""
    asked = experiment.asked
    if asked is None:
        return [_Question((phrase.text,), phrase.boxes_xywh, phrase.category, phrase.groups) for phrase in sample.phrases]
    found = []
    for label in np.unique(sample.box_labels):
        name = experiment.dataset.classes[label]
        texts = tuple(dict.fromkeys(text for one in asked.sets for text in one.positives[name]))
        found.append(_Question(texts, sample.boxes_xywh[sample.box_labels == label], name))
    return found
