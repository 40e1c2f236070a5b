"""The files of a tested job: its kind's predictions, per-image statistics, and a few images for the eye where they may be kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic_core import from_json as parse_json

from benchmark import json_files, private
from benchmark.cards import Job, Record
from benchmark.errors import LobeError, UsageError
from benchmark.files import open_regular, read_bytes
from benchmark.kinds.base import Example, Part, ScoredSplit
from benchmark.kinds.kit import coco_json, parquet
from benchmark.metrics import statistics as of_split
from benchmark.metrics.columns import Column, identical
from benchmark.metrics.statistics import Statistics
from benchmark.readers.kit.withheld import without_names

STATISTICS_FILE = "statistics.parquet"
STATISTICS_JSON = "statistics.json"  # what earlier releases stored
STATISTICS_FILES = (STATISTICS_FILE, STATISTICS_JSON)
EXAMPLES_FILE = "examples.npz"
N_EXAMPLES = 4
FACTS = ("view", "sex", "age_decade")
_OF_EVERY_IMAGE = ("id", "patient", *FACTS)


@dataclass(frozen=True)
class ByImage:
    """Statistics of a tested part, with its images.

    Attributes:
        ids, patients: in order; a patient is None where unknown.
        facts: as of a `Part`; empty in older files.
    """

    ids: tuple[str, ...]
    patients: tuple[str | None, ...]
    statistics: Statistics
    facts: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)


def write(folder: Path, job: Job, part: Part, tested: ScoredSplit, *, with_examples: bool) -> None:
    """Writes predictions and statistics of a tested part into `folder`.

    Args:
        with_examples: whether images may be kept, which the data agreement decides.
    """
    part.kind.store(folder, job, part, tested.predictions)
    header = {"key": job.key, "task": job.labels.task}
    write_statistics(folder / STATISTICS_FILE, ByImage(part.ids, part.patients, tested.statistics, part.facts), header)
    if with_examples and (shown := part.kind.examples(part, tested.predictions)) is not None:
        arrays = cast("dict[str, Any]", shown)  # NumPy's stub would have each of them be a bool, as `allow_pickle` is
        np.savez_compressed(folder / EXAMPLES_FILE, **arrays)


def write_statistics(path: Path, found: ByImage, header: Mapping[str, str]) -> None:
    """Writes statistics as columns, a row per image.

    Args:
        header: whose they are.

    Raises:
        UsageError: they are of other images, or in an order that columns by image do not keep.
    """
    import pyarrow as pa

    columns = of_split.to_columns(found.statistics)
    if not len(found.ids) == len(found.patients) == found.statistics.n_images:
        raise UsageError(f"{path}: statistics of {found.statistics.n_images} images for {len(found.ids)} ids.")
    texts = {"id": found.ids, "patient": found.patients, **found.facts}
    of_images = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    parquet.save(path, {**of_images, **columns.columns}, {**header, "statistics": json.dumps(columns.about, allow_nan=False)})


def read_statistics(path: Path, metric: str | None = None) -> ByImage:
    """Statistics of a file, of columns or of an earlier release's JSON.

    Args:
        metric: reads no more than this one needs; None reads all.

    Raises:
        UsageError: the file is no statistics file.
    """
    try:
        found = _of_json(path, metric) if path.name.endswith(".json") else _of_columns(path, metric)
    except (UsageError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no statistics file ({type(error).__name__}: {error}). Move its record away to have it made again."
        ) from None
    ids, patients, n_images = found.ids, found.patients, found.statistics.n_images
    if not len(ids) == len(patients) == n_images:
        raise UsageError(f"{path} holds {n_images} images, {len(ids)} ids and {len(patients)} patients; the file was edited.")
    return found


def convert_statistics(file: Path, into: Path, job: Job) -> None:
    """Writes an earlier release's statistics as columns, and reads them back.

    Raises:
        UsageError: columns would lose something of them, or the file is damaged.
    """
    given = read_statistics(file)
    write_statistics(into, given, {"key": job.key, "task": job.labels.task})
    content, again = json_files.read(file), of_split.to_json(given.statistics)
    known = {"schema_version", "ids", "patients", "pixels"}  # pixels are packed, and those of another zlib in other bytes
    left_out = {name for name, value in content.items() if name not in known and (name not in again or again[name] != value)}
    added = {name for name, value in again.items() if name not in content and value is not None}
    if left_out or added or not identical(read_statistics(into), given):
        raise UsageError(f"{file} holds more than {STATISTICS_FILE} would: it was not written by LOBE, or edited.")


def read_examples(path: Path) -> list[Example]:
    """The example images of a tested part; empty when there are none."""
    if not path.exists():
        return []
    with open_regular(path) as file, np.load(file, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    masks, boxes, similarity = kept.get("masks"), kept.get("boxes_xywh"), kept.get("similarity")
    return [
        Example(
            index=int(index),
            image=kept["images"][k],
            boxes_xywh=None if boxes is None else boxes[kept["box_owner"] == k],
            masks=None if masks is None else masks[k],
            similarity=None if similarity is None else similarity[k],
            box_labels=kept["box_labels"][kept["box_owner"] == k] if "box_labels" in kept else None,
        )
        for k, index in enumerate(kept["index"])
    ]


def told_of(record: Record, sentence: str, out: Path) -> str:
    """A sentence on a record's files as it may be told: of data that may not be passed on, what names an image or a patient is withheld."""
    if not private.is_restricted(record.redistribution):
        return sentence
    words: set[str] = set()
    for name in record.predictions:
        with contextlib.suppress(LobeError, OSError, ValueError, KeyError):
            if name.endswith(".parquet"):
                words |= parquet.names_in(out / name)
            elif name.endswith(f"/{STATISTICS_JSON}"):
                content = json_files.read(out / name)
                words |= {text for text in (*content["ids"], *content["patients"]) if isinstance(text, str)}
            elif name.endswith(".json"):
                words |= coco_json.names_in(out / name)
    return without_names(sentence, words=words)


def dump(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON. In one piece: `json.dump` would encode in Python, which takes a minute for the detections of a whole test set."""
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")


def _of_json(path: Path, metric: str | None) -> ByImage:
    stored = parse_json(read_bytes(path))
    found = of_split.from_json(stored if metric is None else of_split.json_for(stored, metric))
    return ByImage(tuple(stored["ids"]), tuple(stored["patients"]), found)


def _of_columns(path: Path, metric: str | None) -> ByImage:
    with parquet.opened(path) as file:
        about = json_files.parse(file.header["statistics"])
        there: Sequence[str] = [name for name in file.names if name not in _OF_EVERY_IMAGE]
        read = there if metric is None else of_split.columns_for(about, there, metric)
        file.load((*_OF_EVERY_IMAGE, *read))
        columns: dict[str, Column] = {name: file.column(name) for name in read}
        facts = {name: tuple(file.optional_texts(name)) for name in FACTS if name in file.names}
        return ByImage(file.ids, tuple(file.optional_texts("patient")), of_split.from_columns(about, columns), facts)
