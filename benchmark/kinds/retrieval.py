"""Retrieval: images find reports and reports find images; ranks are scored in `heads.retrieval`, embeddings are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmark.cards import DatasetCard, Experiment, HeadFacts, Job, PromptCard, TaskCard, Words
from benchmark.errors import ConformanceError, DataError, UsageError
from benchmark.heads import retrieval
from benchmark.kinds.base import Part, ScoredSplit, StoredForm, warnings_of
from benchmark.kinds.kit import parquet
from benchmark.kinds.kit.untrained import UntrainedKind, truncation_warnings
from benchmark.metrics import scores
from benchmark.metrics.retrieval import CLASS_MATCHES, TEXT_MATCHES, Similarities, cosine, duplicate_rate, text_keys
from benchmark.readers.base import Sample

if TYPE_CHECKING:
    from benchmark.kinds.kit.embedding import UntrainedJob

EXHAUSTIVE = 1_000  # pairs up to which every image meets every text by a similarity that is no plain cosine: the published size
EMBEDDINGS_FILE = "embeddings.parquet"


FACTS = HeadFacts(title="retrieval", target="reports", trains=False)


class Retrieval(UntrainedKind):
    """A match is a report of the same words, or of the same class."""

    name = "retrieval"
    target = "reports"
    stored_as: ClassVar[StoredForm] = parquet
    asks_every_image = True
    reads = frozenset({"matches", "own_report", "rerank"})

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        by_text = task.words is None or task.words.matches == "text"
        return frozenset({TEXT_MATCHES if by_text else CLASS_MATCHES})

    def question_faults(self, words: Words, dataset: DatasetCard | None) -> list[str]:
        found = []
        if words.matches == "class" and dataset is not None and "labels" not in dataset.targets:
            found.append(f"matches` is class, for which {dataset.name} has no labels.")
        if words.own_report == "removed" and words.matches != "class":
            found.append("own_report` is removed, and then nothing could be found: only where `matches` is class.")
        if words.rerank is not None and words.rerank < 1:
            found.append(f"rerank` is {words.rerank}; a number from 1 on.")
        return found

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> tuple[Sample, ...]:
        """The samples, for their reports and labels."""
        return tuple(samples)

    def answer(self, given: UntrainedJob) -> ScoredSplit:
        part, words = given.parts["test"], given.words
        reports = _reports(part, given.experiment.dataset.name)
        keys = text_keys(reports)
        image = np.concatenate([e.global_.float().cpu().numpy() for _, e in given.images(part)])
        blocks = [(e.global_.float().cpu().numpy(), e.n_truncated) for _, e in given.text_blocks(reports)]
        text, n_truncated = np.concatenate([block for block, _ in blocks]), sum(n for _, n in blocks)
        _require_finite(image, "embed_images")
        _require_finite(text, "embed_texts")
        forward, backward = _both_directions(given, part, reports, image, text)
        if words.matches == "text":
            columns = retrieval.score_text_matches(forward, backward, keys)
        else:
            labels, names = np.stack([sample.labels for sample in part.annotations]), given.experiment.dataset.classes
            if not (np.asarray(labels == 1).sum(axis=1) == 1).all():
                raise DataError(f"{given.experiment.dataset.name}: retrieval by class needs images of exactly one class.")
            own = np.arange(len(part)) if words.own_report == "removed" else None
            columns = retrieval.score_class_matches(forward, labels.argmax(axis=1), names, own)
        found = scores.score_rows(tuple(columns), np.stack(list(columns.values()), axis=1), np.arange(len(part)), len(part))
        metrics = found.metrics | {"duplicate_rate": duplicate_rate(keys)}
        warnings = (*warnings_of(found), *truncation_warnings(n_truncated, len(reports), "reports"))
        return ScoredSplit(metrics, found.statistics, (image, text), warnings)

    def store(self, folder: Path, job: Job, part: Part, predictions: tuple[np.ndarray, np.ndarray]) -> None:
        """Writes (id, image, text): float32 global embeddings of each pair."""
        import pyarrow as pa

        image, text = predictions
        width = image.shape[1]
        columns = {"id": pa.array(part.ids, pa.string())}
        for name, values in (("image", image), ("text", text)):
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), width)
        parquet.write(folder / EMBEDDINGS_FILE, job, columns)


KIND = Retrieval()


def _reports(part: Part, dataset: str) -> list[str]:
    reports = [sample.report or "" for sample in part.annotations]
    if empty := sum(not report.strip() for report in reports):
        raise DataError(f"{dataset}: {empty:,} of {len(reports):,} test images have no report text.")
    return reports


def _both_directions(
    given: UntrainedJob, part: Part, reports: Sequence[str], image: np.ndarray, text: np.ndarray
) -> tuple[Similarities, Similarities]:
    """Similarities of images with texts and of texts with images."""
    words = given.words
    forward, backward = cosine(image, text), cosine(text, image)
    if given.is_plain_cosine:
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
    for place, embedded in given.text_blocks(reports):
        for index, seen in given.images(part):
            table[index[0] : index[-1] + 1, place] = given.similarity(seen, embedded).cpu().numpy()
    return (lambda rows: table[rows]), (lambda rows: table.T[rows])


def _of_pairs(given: UntrainedJob, part: Part, reports: Sequence[str], pairs: set[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Similarity of given pairs of image and text; texts are embedded again for the images that need them, so memory stays bounded."""
    wanted: dict[int, list[int]] = {}
    for i, j in sorted(pairs):
        wanted.setdefault(i, []).append(j)
    found: dict[tuple[int, int], float] = {}
    for index, seen in given.images(part):
        needed = sorted({j for i in index for j in wanted.get(int(i), [])})
        for place, embedded in given.text_blocks([reports[j] for j in needed]):
            similar = given.similarity(seen, embedded).cpu().numpy()
            block = needed[place]
            found |= {(int(i), j): float(similar[r, c]) for r, i in enumerate(index) for c, j in enumerate(block) if (int(i), j) in pairs}
    return found


def _require_finite(embedding: np.ndarray, method: str) -> None:
    if not np.isfinite(embedding).all():
        raise ConformanceError(f"{method}() returned NaN or infinity.")
