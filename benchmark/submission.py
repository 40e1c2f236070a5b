"""Re-scoring of saved predictions: anyone who holds the data can check a number without the backbone.

Predictions say in which frame they were measured; without that they are refused: the same boxes in another frame give another number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark import registry, resolve
from benchmark.cards import BackboneRef, DatasetCard, Job
from benchmark.errors import FrameMismatch, LobeError, StoreError, UsageError
from benchmark.integrity import PREDICTIONS, file_of
from benchmark.metrics import scores
from benchmark.metrics.box_units import wrong_units
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.readers.lists import NAME as LISTS
from benchmark.readers.withheld import is_withheld, withholding
from benchmark.store import read_record
from benchmark.training import predictions
from benchmark.training.data import Part, load_part
from benchmark.training.inputs import Inputs
from benchmark.training.once import is_calibrated


@dataclass(frozen=True)
class Rescored:
    """Metrics of a predictions file, fractions in [0, 1].

    Attributes:
        undefined: metrics that have no value on this split, with the reason.
    """

    task: str
    protocol: str
    split: str
    report: str
    n_images: int
    metrics: dict[str, float]
    undefined: dict[str, str]


def score(
    task: str,
    file: Path,
    data: Sequence[str],
    cache: Path | None,
    protocol: str,
    limit: int | None = None,
    split: str | None = None,
    splits: Path | None = None,
) -> Rescored:
    """Scores a predictions file on the test split of a task.

    Args:
        file: COCO-style JSON as a job writes it (`detections.json` or `masks.json`), with `frame` and a table `images`.
        limit: the limit of the run the predictions come from.
        split: a split of the dataset card; None takes the task card's.
        splits: folder with one sub-folder of split lists per dataset, instead of a rule.

    Raises:
        FrameMismatch: no frame, or another than the task's.
        DamagedResult: the file lies beside its record and is not what was stored with it.
        UsageError: images missing, repeated or not of the test split, other classes, a row that makes no sense, or a file that names
            another split: two splits may share their test images and differ in what was trained on.
    """
    if split is not None and splits is not None:
        raise UsageError("--split names a rule and --splits gives lists instead of one: use either.")
    _require_as_recorded(file)
    with withholding(registry.dataset(registry.task(task).dataset), words=lambda: _names_in(file)):
        return _scored(task, file, data, cache, protocol, limit, split, splits)


def _scored(
    task: str,
    file: Path,
    data: Sequence[str],
    cache: Path | None,
    protocol: str,
    limit: int | None,
    split: str | None,
    splits: Path | None,
) -> Rescored:
    (card,) = resolve.tasks([task], None)
    rules = registry.protocol(protocol)
    folder = resolve.cache_folder(cache)
    dataset_card = registry.dataset(card.dataset)
    root = resolve.dataset_root(dataset_card, resolve.data_roots(data))
    lists = None if splits is None else splits / card.dataset
    dataset = resolve.dataset(dataset_card, root, rules, split or card.split, lists, trains=card.words is None, limit=limit, cache=folder)
    nobody = NamedBackbone("predictions", BackboneRef(family="none", model="none", digest="none"))
    job = plan([card], [nobody], {card.dataset: dataset.ref}, rules, Settings(runs=1, limit=limit), registry.prompts())[-1]
    _require_same_split(file, dataset, given=split is not None or splits is not None)
    part = _test_part(job, dataset, folder)
    names = dataset_card.classes
    if card.target == "boxes":
        found, ids = predictions.read_detections(file, names)
        _require_same_images(file, ids, part, dataset_card)
        _require_frame(file, found.frame, part)
        if (why := wrong_units(found, job.experiment.dataset.frame_size)) is not None:
            raise UsageError(f"{file}: {why}. Boxes are x, y, width, height in pixels of the frame {found.frame!r}, after suppression.")
        order = _positions(ids, part)
        found = type(found)(order[found.image], found.xywh, found.label, found.n_images, found.frame, found.confidence)
        result = scores.score_detection(found, part.truth(), names)
    elif card.target in ("reports", "phrases"):
        raise UsageError(f"{task} stores embeddings and maps, which are not scored again; its metrics stand in the record.")
    elif card.target == "labels":
        given, ids, classes = predictions.read_scores(file)
        _require_same_images(file, ids, part, dataset_card)
        if classes != names:
            raise UsageError(f"{file} scores the classes {', '.join(classes)}; the task's are {', '.join(names)}.")
        placed_scores = np.empty_like(given)
        placed_scores[_positions(ids, part)] = given
        words = job.experiment.words
        exclusive = words.decision == "highest" if words else registry.plugin("heads", card.head).Classifier.exclusive
        calibrated = words is None or is_calibrated(job.experiment)
        result = scores.score_classification(placed_scores, part.class_labels, names, exclusive, calibrated=calibrated)
    else:
        masks, ids, frame = predictions.read_masks(file, classes=names)
        _require_same_images(file, ids, part, dataset_card)
        _require_frame(file, frame, part)
        placed = np.empty_like(masks)
        placed[_positions(ids, part)] = masks
        truth = part.masks(np.arange(len(part)))
        result = scores.score_segmentation(placed.astype(np.float32), truth, names, true_masks=dataset_card.mask_source == "masks")
        # A binary mask has no ranking of pixels: the average precision of the run cannot be recomputed from it.
        result.metrics.pop("pixel_ap", None)
        result.undefined["pixel_ap"] = "predictions are stored as masks, without probabilities"
    return Rescored(task, protocol, dataset.ref.split, card.report, len(part), result.metrics, result.undefined)


def _names_in(file: Path) -> set[str]:
    """Names of images in a predictions file; none where it cannot be read."""
    try:
        if file.suffix == ".parquet":
            return set(predictions.read_scores(file)[1])
        return {str(image["name"]) for image in json.loads(file.read_text(encoding="utf-8"))["images"]}
    except (LobeError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def _test_part(job: Job, dataset: resolve.ResolvedDataset, cache: Path) -> Part:
    inputs = Inputs(
        card=dataset.card,
        dataset_root=dataset.root,
        cache=cache / "images",
        backbone_model="none",
        weights=None,
        release=dataset.release,
        phantom=dataset.phantom,
        known_release=dataset.known_release,
        lists=dataset.lists,
    )
    return load_part(job.experiment, inputs, "test")


def _require_as_recorded(file: Path) -> None:
    """A file in an output folder is held to its record's digest; a record that may not be believed itself cannot vouch for it."""
    key, folder, out = (parent := file.absolute().parent).name, parent.parent.name, parent.parent.parent
    record = out / "records" / f"{key}.json"
    if folder == PREDICTIONS and record.is_file():
        try:
            believed = read_record(record)
        except StoreError:
            return
        file_of(believed, file.name, out)


def _require_same_split(file: Path, resolved: resolve.ResolvedDataset, *, given: bool) -> None:
    """A file that does not name its split is taken at the user's word; its images cannot tell splits apart that share their test images."""
    dataset, made_for = resolved.ref, predictions.read_split(file)
    if made_for is None and not given and len(resolved.card.splits) > 1:
        offered = ", ".join(resolved.card.splits)
        raise UsageError(f"{file} does not say for which split of {dataset.name} it was made. Name it with --split; there are: {offered}.")
    if made_for is None or made_for == (dataset.split, dataset.split_rule.rule):
        return
    name, rule = made_for
    if name == dataset.split and name != LISTS:
        raise UsageError(
            f"{file} was made for another dataset, or by a card of another version: its split {name} follows the rule {rule}, "
            f"that of {dataset.name} follows {dataset.split_rule.rule}. Score it on the task it was made for."
        )
    cure = "the same lists with --splits" if name == LISTS else f"--split {name}"
    raise UsageError(
        f"{file} was made for the split {name} ({rule}), not for {dataset.split} ({dataset.split_rule.rule}). Score it with {cure}."
    )


def _require_same_images(file: Path, ids: Sequence[str], part: Part, card: DatasetCard) -> None:
    given, wanted = set(ids), set(part.ids)
    if len(given) != len(ids):
        raise UsageError(f"{file}: {len(ids) - len(given)} image names are repeated in its table `images`.")
    missing, foreign = sorted(wanted - given), sorted(given - wanted)
    if missing or foreign:
        some = "" if is_withheld(card) else f" ({', '.join((missing or foreign)[:3])})"
        raise UsageError(
            f"{file}: its images are not the task's {len(wanted):,} test images: "
            f"{len(missing):,} missing, {len(foreign):,} foreign{some}. "
            "Predictions of a limited run need the same --limit."
        )


def _require_frame(file: Path, frame: str, part: Part) -> None:
    if frame != part.frame_name:
        raise FrameMismatch(
            f"{file} was measured in frame {frame!r}, the task is scored in {part.frame_name!r}. Map the predictions first."
        )


def _positions(ids: Sequence[str], part: Part) -> np.ndarray:
    where = {name: i for i, name in enumerate(part.ids)}
    return np.array([where[name] for name in ids], np.int64)
