"""Tasks that train nothing: images and texts go through the backbone once, and a head's rule turns their similarities into scores.

Zero-shot classification, retrieval and grounding. What a similarity is worth is decided in `heads`; here images and texts are embedded, in
blocks, and results are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.cards import SCHEMA_VERSION, Experiment, Job
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text_contract import require_image_embedding, require_text_embedding, require_text_side
from benchmark.errors import ConformanceError, DataError, UsageError
from benchmark.heads import grounding, retrieval, zero_shot
from benchmark.heads.networks.local_similarity import best_words, combined
from benchmark.heads.prompts import PromptSet
from benchmark.metrics import scores
from benchmark.metrics.classification import best_f1_thresholds
from benchmark.metrics.retrieval import cosine, duplicate_rate, text_keys
from benchmark.readers.base import Sample
from benchmark.training.data import Part
from benchmark.training.evaluate import Tested
from benchmark.training.predictions import EXAMPLES_FILE, write_grounded_examples

TEXT_BATCH = 32
EXHAUSTIVE = 1_000  # pairs up to which every image meets every text by a similarity that is no plain cosine: the published size
EMBEDDINGS_FILE = "embeddings.parquet"
MAPS_FILE = "maps.parquet"

Reading = Callable[[Sequence[str]], TextEmbedding]


@dataclass(frozen=True)
class Untrained:
    """A job that trains nothing, ready to be answered.

    Attributes:
        samples: split -> samples, aligned with `parts`.
        most: images that pass at once.
        with_examples: whether a few images may be kept for the eye.
    """

    job: Job
    encoder: SealedEncoder
    parts: Mapping[str, Part]
    samples: Mapping[str, Sequence[Sample]]
    device: torch.device
    autocast: Callable[[], AbstractContextManager]
    most: int
    with_examples: bool = False

    @property
    def experiment(self) -> Experiment:
        return self.job.experiment

    @property
    def backbone(self) -> VisionLanguageBackbone:
        return self.encoder.backbone


def answer(given: Untrained, produced: Path) -> Tested:
    """Scores the test split and writes what the scores were made of into `produced`.

    Raises:
        ConformanceError: the backbone has no text side, or its embeddings do not fit each other.
        DataError: images without a report or phrase where the task reads them.
    """
    kinds = {"zero_shot": _zero_shot, "retrieval": _retrieval, "grounding": _grounding}
    require_text_side(given.encoder.backbone, given.job.labels.task)
    head = given.experiment.head
    given.encoder.set_mode("frozen")
    with torch.no_grad():
        return kinds[head](given, produced)


def is_calibrated(experiment: Experiment) -> bool:
    """Whether zero-shot scores are probabilities: only a class asked for as a pair gives one."""
    return experiment.asked is not None and all(asked.negatives for asked in experiment.asked.sets)


# --------------------------------------------------------------------------------------------------------------- zero-shot


def _zero_shot(given: Untrained, produced: Path) -> Tested:
    experiment = given.experiment
    words, asked, names = experiment.words, experiment.asked, experiment.dataset.classes
    if asked is None:
        raise UsageError(f"{given.job.labels.task} asks with no prompts: its card names none.")
    exclusive, calibrated = words.decision == "highest", is_calibrated(experiment)
    embedded = _texts(given, _prompts(given), _reader(given))
    by_set = {name: _scores_by_set(given, part, embedded) for name, part in given.parts.items()}
    mean = {name: np.mean(each, axis=0) for name, each in by_set.items()}
    thresholds = None
    if "validation" in mean and not exclusive:
        thresholds = best_f1_thresholds(mean["validation"], given.parts["validation"].class_labels)
    truth = given.parts["test"].class_labels
    found = scores.score_classification(mean["test"], truth, names, exclusive, thresholds, calibrated)
    metrics = dict(found.metrics)
    if len(asked.sets) > 1:
        each = [scores.score_classification(s, truth, names, exclusive, None, calibrated).metrics for s in by_set["test"]]
        for family in ("auroc", "ap"):
            values = [m[family] for m in each if family in m]
            if len(values) == len(each):
                metrics |= {f"{family}_mean_of_sets": float(np.mean(values)), f"{family}_lowest_set": min(values)}
                metrics[f"{family}_highest_set"] = max(values)
    warnings = (*_of_undefined(found), *_of_cut(embedded.n_truncated, len(embedded.global_), "prompts"))
    return Tested(metrics, found.statistics, None, None, warnings, mean["test"].astype(np.float32))


def _sets(given: Untrained) -> list[PromptSet]:
    """The paraphrase sets, classes in the card's order."""
    asked, names = given.experiment.asked, given.experiment.dataset.classes
    return [
        PromptSet({c: one.positives[c] for c in names}, {c: one.negatives[c] for c in names} if one.negatives else {}) for one in asked.sets
    ]


def _prompts(given: Untrained) -> list[str]:
    """Every prompt once."""
    return list(dict.fromkeys(text for one in _sets(given) for text in one.texts))


def _scores_by_set(given: Untrained, part: Part, embedded: TextEmbedding) -> np.ndarray:
    """(K, N, C) class scores of each paraphrase set; `embedded` are the prompts in their order."""
    words, asked = given.experiment.words, given.experiment.asked
    sets, texts = _sets(given), _prompts(given)
    table = np.concatenate([_similarity(given, image, embedded).cpu().numpy() for _, image in _images(given, part)])
    column = {text: k for k, text in enumerate(texts)}

    def similarities(wanted: Sequence[str]) -> np.ndarray:
        return table[:, [column[text] for text in wanted]]

    each = [zero_shot.class_scores(similarities, one, asked.combine) for one in sets]
    if words.across_images == "standardised":
        each = [zero_shot.standardised(one) for one in each]
    return np.stack(each)


# --------------------------------------------------------------------------------------------------------------- retrieval


def _retrieval(given: Untrained, produced: Path) -> Tested:
    part, samples, words = given.parts["test"], given.samples["test"], given.experiment.words
    reports = [sample.report or "" for sample in samples]
    empty = sum(not report.strip() for report in reports)
    if empty:
        raise DataError(f"{given.experiment.dataset.name}: {empty:,} of {len(reports):,} test images have no report text.")
    keys = text_keys(reports)
    image = np.concatenate([e.global_.float().cpu().numpy() for _, e in _images(given, part)])
    blocks = [(e.global_.float().cpu().numpy(), e.n_truncated) for _, e in _text_blocks(given, reports, given.backbone.embed_texts)]
    text, n_cut = np.concatenate([block for block, _ in blocks]), sum(n for _, n in blocks)
    _require_finite(image, "embed_images")
    _require_finite(text, "embed_texts")
    forward, backward = _both_directions(given, part, reports, image, text)
    if words.matches == "text":
        columns = retrieval.score_text_matches(forward, backward, keys)
    else:
        labels, names = np.stack([sample.labels for sample in samples]), given.experiment.dataset.classes
        if not (np.asarray(labels == 1).sum(axis=1) == 1).all():
            raise DataError(f"{given.experiment.dataset.name}: retrieval by class needs images of exactly one class.")
        own = np.arange(len(part)) if words.own_report == "removed" else None
        columns = retrieval.score_class_matches(forward, labels.argmax(axis=1), names, own)
    found = scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), np.arange(len(part)), len(part))
    metrics = found.metrics | {"duplicate_rate": duplicate_rate(keys)}
    _write_embeddings(produced / EMBEDDINGS_FILE, given.job, part, image, text)
    return Tested(metrics, found.statistics, None, None, (*_of_undefined(found), *_of_cut(n_cut, len(reports), "reports")))


def _both_directions(given: Untrained, part: Part, reports: Sequence[str], image: np.ndarray, text: np.ndarray):
    """Similarities of images with texts and of texts with images."""
    words = given.experiment.words
    forward, backward = cosine(image, text), cosine(text, image)
    if _is_plain_cosine(given):
        return forward, backward
    if words.rerank is not None:
        k = min(words.rerank, len(part))
        near_image = retrieval.first_candidates(forward, len(part), k)
        near_text = retrieval.first_candidates(backward, len(part), k)
        pairs = {(i, int(j)) for i, row in enumerate(near_image) for j in row} | {
            (int(i), j) for j, row in enumerate(near_text) for i in row
        }
        finer = _of_pairs(given, part, reports, pairs)
        by_image = {i: (row, np.array([finer[i, int(j)] for j in row])) for i, row in enumerate(near_image)}
        by_text = {j: (row, np.array([finer[int(i), j] for i in row])) for j, row in enumerate(near_text)}
        return retrieval.reranked(forward, by_image), retrieval.reranked(backward, by_text)
    if len(part) > EXHAUSTIVE:
        raise UsageError(
            f"{given.job.labels.task}: {len(part):,} images would each meet {len(part):,} texts word by word; that is done up to "
            f"{EXHAUSTIVE:,}. Use a task that re-ranks the first of the global order."
        )
    table = np.zeros((len(part), len(part)), np.float32)
    for place, embedded in _text_blocks(given, reports, given.backbone.embed_texts):
        for index, seen in _images(given, part):
            table[index[0] : index[-1] + 1, place] = _similarity(given, seen, embedded).cpu().numpy()
    return (lambda rows: table[rows]), (lambda rows: table.T[rows])


def _of_pairs(given: Untrained, part: Part, reports: Sequence[str], pairs: set[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Similarity of given pairs of image and text; texts are embedded again for the images that need them, so memory stays bounded."""
    wanted: dict[int, list[int]] = {}
    for i, j in sorted(pairs):
        wanted.setdefault(i, []).append(j)
    found = {}
    for index, seen in _images(given, part):
        needed = sorted({j for i in index for j in wanted.get(int(i), [])})
        for start in range(0, len(needed), TEXT_BATCH):
            block = needed[start : start + TEXT_BATCH]
            similar = _similarity(given, seen, _embed(given, [reports[j] for j in block], given.backbone.embed_texts)).cpu().numpy()
            found |= {(int(i), j): float(similar[r, c]) for r, i in enumerate(index) for c, j in enumerate(block) if (int(i), j) in pairs}
    return found


def _is_plain_cosine(given: Untrained) -> bool:
    kind = given.experiment.words.similarity
    return kind == "global" or (kind == "own" and type(given.backbone).similarity is VisionLanguageBackbone.similarity)


# --------------------------------------------------------------------------------------------------------------- grounding


def _grounding(given: Untrained, produced: Path) -> Tested:
    part, names = given.parts["test"], given.experiment.dataset.classes
    frames = part.cache.frames(part.rows)
    questions = [_questions(given, sample) for sample in given.samples["test"]]
    texts = list(dict.fromkeys(text for image in questions for one in image for text in one.texts))
    if not texts:
        raise DataError(f"{given.experiment.dataset.name}: no test image has a phrase with a box.")
    asked = _texts(given, texts, given.backbone.embed_texts)
    embedded, column = asked.global_, {text: k for k, text in enumerate(texts)}
    rows, owner, category, boxes, maps = [], [], [], [], []
    for index, seen in _images(given, part):
        for i, places in zip(index, seen.local, strict=True):
            for one in questions[i]:
                each = grounding.similarity_maps(places, embedded[[column[text] for text in one.texts]])
                similarity = each.mean(dim=0).cpu()
                rows.append(grounding.score_phrase(similarity, one.boxes_xywh, frames[i]))
                owner.append(int(i))
                category.append(one.category)
                boxes.append(one.boxes_xywh)
                maps.append(similarity.numpy())
    values, kinds = np.stack(rows), np.array(category)
    columns = {name: values[:, k] for k, name in enumerate(grounding.COLUMNS)}
    columns |= {f"{name}_cnr": np.where(kinds == name, values[:, 0], np.nan) for name in names if len(names) > 1}
    found = scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), np.array(owner), len(part))
    _write_maps(produced / MAPS_FILE, given.job, part, owner, category, maps)
    if given.with_examples:
        write_grounded_examples(produced / EXAMPLES_FILE, part, owner, boxes, maps)
    warnings = (*_of_undefined(found), *_of_cut(asked.n_truncated, len(texts), "phrases"))
    return Tested(found.metrics | {"n_phrases": float(len(rows))}, found.statistics, None, None, warnings)


@dataclass(frozen=True)
class _Question:
    """What is looked for in one image: texts (several ask for the same) and its boxes in original pixels."""

    texts: tuple[str, ...]
    boxes_xywh: np.ndarray
    category: str


def _questions(given: Untrained, sample: Sample) -> list[_Question]:
    """The sample's own phrases, or each of its boxed classes in the words of the prompts."""
    asked = given.experiment.asked
    if asked is None:
        return [_Question((phrase.text,), phrase.boxes_xywh, phrase.category) for phrase in sample.phrases]
    found = []
    for label in np.unique(sample.box_labels):
        name = given.experiment.dataset.classes[label]
        texts = tuple(dict.fromkeys(text for one in asked.sets for text in one.positives[name]))
        found.append(_Question(texts, sample.boxes_xywh[sample.box_labels == label], name))
    return found


# --------------------------------------------------------------------------------------------------------------- embedding


def _images(given: Untrained, part: Part) -> Iterator[tuple[np.ndarray, ImageEmbedding]]:
    size = given.most
    for start in range(0, len(part), size):
        index = np.arange(start, min(start + size, len(part)))
        with given.autocast():
            found = given.encoder.embed_images(part.images(index).to(given.device))
        require_image_embedding(found, len(index), given.backbone)
        yield index, found


def _reader(given: Untrained) -> Reading:
    """How prompts are read: as any text, or as the method's released zero-shot code reads them."""
    backbone = given.backbone
    return backbone.embed_prompts if given.experiment.words.prompts_read == "as-released" else backbone.embed_texts


def _text_blocks(given: Untrained, texts: Sequence[str], read: Reading) -> Iterator[tuple[slice, TextEmbedding]]:
    for start in range(0, len(texts), TEXT_BATCH):
        yield slice(start, min(start + TEXT_BATCH, len(texts))), _embed(given, texts[start : start + TEXT_BATCH], read)


def _embed(given: Untrained, texts: Sequence[str], read: Reading) -> TextEmbedding:
    with given.autocast():
        found = read(list(texts))
    require_text_embedding(found, len(texts), given.backbone)
    return found


def _texts(given: Untrained, texts: Sequence[str], read: Reading) -> TextEmbedding:
    """All texts as one embedding; words of shorter texts are padded."""
    blocks = [block for _, block in _text_blocks(given, texts, read)]
    longest = max(block.local.shape[2] for block in blocks)
    return TextEmbedding(
        torch.cat([block.global_ for block in blocks]),
        torch.cat([F.pad(block.local, (0, longest - block.local.shape[2])) for block in blocks]),
        torch.cat([F.pad(block.mask, (0, longest - block.mask.shape[1])) for block in blocks]),
        sum(block.n_truncated for block in blocks),
    )


def _similarity(given: Untrained, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
    """(N, M) float32 by the rule the task names."""
    kind = given.experiment.words.similarity
    if kind == "own":
        return given.backbone.similarity(image, text).float()
    whole = (F.normalize(image.global_, dim=-1) @ F.normalize(text.global_, dim=-1).T).float()
    if kind == "global":
        return whole
    local = best_words(image.local, text.local, text.mask)
    return local if kind == "local" else combined(whole, local)


def _of_undefined(found: scores.Scores) -> tuple[str, ...]:
    return tuple(f"{name} is undefined: {why}" for name, why in found.undefined.items())


def _of_cut(n: int, n_texts: int, what: str) -> tuple[str, ...]:
    return (f"{n:,} of {n_texts:,} {what} are longer than the text encoder reads and were cut",) if n else ()


def _require_finite(embedding: np.ndarray, method: str) -> None:
    if not np.isfinite(embedding).all():
        raise ConformanceError(f"{method}() returned NaN or infinity.")


# ------------------------------------------------------------------------------------------------------------------- files


def _write_embeddings(path: Path, job: Job, part: Part, image: np.ndarray, text: np.ndarray) -> None:
    """(id, image, text): float32 global embeddings of each pair."""
    width = image.shape[1]
    columns = {"id": pa.array(part.ids, pa.string())}
    for name, values in (("image", image), ("text", text)):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), width)
    _write(path, job, columns)


def _write_maps(path: Path, job: Job, part: Part, owner: Sequence[int], category: Sequence[str], maps: Sequence[np.ndarray]) -> None:
    """(id, category, height, width, map): the cosine of each phrase over the padded frame, before upsampling, row by row."""
    columns = {
        "id": pa.array([part.ids[i] for i in owner], pa.string()),
        "category": pa.array(list(category), pa.string()),
        "height": pa.array([m.shape[0] for m in maps], pa.int32()),
        "width": pa.array([m.shape[1] for m in maps], pa.int32()),
        "map": pa.array([m.astype(np.float32).reshape(-1).tolist() for m in maps], pa.list_(pa.float32())),
    }
    _write(path, job, columns)


def _write(path: Path, job: Job, columns: dict) -> None:
    about = {"schema_version": str(SCHEMA_VERSION), "key": job.key, "task": job.labels.task}
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
