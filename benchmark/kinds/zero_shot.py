"""Zero-shot classification: images are compared with prompts, whose similarities become scores of classes (`heads.zero_shot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from benchmark.cards import AskedPrompts, DatasetCard, Experiment, HeadFacts, Job, PromptCard, TaskCard, Words
from benchmark.errors import UsageError
from benchmark.heads import zero_shot
from benchmark.heads.prompts import PromptSet
from benchmark.kinds.base import Frames, Part, ScoredSplit, StoredForm, warnings_of
from benchmark.kinds.kit import class_scores, parquet
from benchmark.kinds.kit.untrained import UntrainedKind, truncation_warnings, words_of
from benchmark.metrics import scores
from benchmark.metrics.classification import SEVERAL_PROMPT_SETS, best_f1_thresholds
from benchmark.metrics.label_statistics import class_fields
from benchmark.metrics.scores import Scores
from benchmark.readers.base import Sample

if TYPE_CHECKING:
    from benchmark.encoders.base import TextEmbedding
    from benchmark.kinds.kit.embedding import UntrainedJob


FACTS = HeadFacts(title="zero_shot", target="labels", trains=False)


class ZeroShot(UntrainedKind):
    """Scores each class by its prompts; a threshold is chosen on validation where classes are decided one by one."""

    name = "zero-shot classification"
    target = "labels"
    stored_as: ClassVar[StoredForm] = parquet
    reads = frozenset({"prompts", "across_images"})

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        words = task.words
        asked = None if words is None or words.prompts is None else prompts.get(words.prompts)
        templates = () if asked is None else asked.templates
        calibrated = bool(templates) and all(one.negative is not None for one in templates)
        highest = words is not None and words.decision == "highest"
        fields = class_fields(len(dataset.classes), highest, calibrated, thresholds=not highest)
        return fields | {SEVERAL_PROMPT_SETS} if len(templates) > 1 else fields

    def question_faults(self, words: Words, dataset: DatasetCard | None) -> list[str]:
        return [] if words.prompts is not None else ["prompts` names none, and zero-shot classification asks with prompts."]

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> np.ndarray:
        labels = class_scores.labels_of(samples)
        if experiment.words is not None and experiment.words.decision == "highest":
            class_scores.require_one_class(labels, "`decision: highest`")
        return labels

    def answer(self, given: UntrainedJob) -> ScoredSplit:
        """
        Raises:
            UsageError: the task has no prompts.
        """
        experiment = given.experiment
        asked, names = experiment.asked, experiment.dataset.classes
        if asked is None:
            raise UsageError(f"{given.job.labels.task} asks with no prompts: its card names none.")
        exclusive, calibrated = given.words.decision == "highest", is_calibrated(experiment)
        sets = _sets(asked, names)
        embedded = given.prompts(_prompts(sets))
        by_set = {name: _scores_by_set(given, part, sets, asked.combine, embedded) for name, part in given.parts.items()}
        mean = {name: np.mean(each, axis=0) for name, each in by_set.items()}
        thresholds = None
        if "validation" in mean and not exclusive:
            thresholds = best_f1_thresholds(mean["validation"], given.parts["validation"].annotations)
        truth = given.parts["test"].annotations
        found = scores.score_classification(mean["test"], truth, names, exclusive, thresholds, calibrated)
        metrics = dict(found.metrics)
        if len(asked.sets) > 1:
            each = [scores.score_classification(s, truth, names, exclusive, None, calibrated).metrics for s in by_set["test"]]
            for family in ("auroc", "ap"):
                values = [m[family] for m in each if family in m]
                if len(values) == len(each):
                    metrics |= {f"{family}_mean_of_sets": float(np.mean(values)), f"{family}_lowest_set": min(values)}
                    metrics[f"{family}_highest_set"] = max(values)
        warnings = (*warnings_of(found), *truncation_warnings(embedded.n_truncated, len(embedded.global_), "prompts"))
        return ScoredSplit(metrics, found.statistics, mean["test"].astype(np.float32), warnings)

    def store(self, folder: Path, job: Job, part: Part, predictions: np.ndarray) -> None:
        """Writes (N, C) scores, which are probabilities where `is_calibrated`."""
        class_scores.write(folder, job, part, predictions)

    def export(self, file: Path, frame: Frames) -> tuple[str, bytes] | None:
        return class_scores.export(file)

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        exclusive = words_of(job).decision == "highest"
        return class_scores.rescored(file, part, card, exclusive=exclusive, calibrated=is_calibrated(job.experiment))


KIND = ZeroShot()


def is_calibrated(experiment: Experiment) -> bool:
    """Whether scores are probabilities: only a class asked for as a pair gives one."""
    return experiment.asked is not None and all(asked.negatives for asked in experiment.asked.sets)


def _sets(asked: AskedPrompts, names: Sequence[str]) -> list[PromptSet]:
    """The paraphrase sets, classes in the card's order."""
    return [
        PromptSet({c: one.positives[c] for c in names}, {c: one.negatives[c] for c in names} if one.negatives else {}) for one in asked.sets
    ]


def _prompts(sets: Sequence[PromptSet]) -> list[str]:
    """Every prompt once."""
    return list(dict.fromkeys(text for one in sets for text in one.texts))


def _scores_by_set(
    given: UntrainedJob, part: Part, sets: Sequence[PromptSet], combine: Literal["max", "mean"], embedded: TextEmbedding
) -> np.ndarray:
    """(K, N, C) class scores of each paraphrase set; `embedded` are the prompts in their order."""
    table = np.concatenate([given.similarity(image, embedded).cpu().numpy() for _, image in given.images(part)])
    column = {text: k for k, text in enumerate(_prompts(sets))}

    def similarities(wanted: Sequence[str]) -> np.ndarray:
        return table[:, [column[text] for text in wanted]]

    each = [zero_shot.class_scores(similarities, one, combine) for one in sets]
    if given.words.across_images == "standardised":
        each = [zero_shot.standardised(one) for one in each]
    return np.stack(each)
