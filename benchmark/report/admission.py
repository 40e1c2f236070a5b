"""Which stored results may stand beside a paper's numbers: those that repeat what it did, on the images that it published."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark import registry
from benchmark.cards import Job, PaperCard, Record, Role
from benchmark.readers.kit.lists import NAME as LISTS


def admit(records: Iterable[Record], card: PaperCard, compared: set[str]) -> tuple[list[Record], list[tuple[str, str]]]:
    """Records that may stand beside the paper's numbers, and (job, reason) of the others; records of no task of the paper are neither."""
    mine = compared.union(registry.suite(card.suite).tasks if card.suite else ())
    admitted, refused = [], []
    for record in records:
        labels = record.job.labels
        if labels.task not in mine:
            continue
        reason = _why_refused(record, card, compared)
        if reason is None:
            admitted.append(record)
        else:
            refused.append((f"{labels.task}, {labels.backbone}, run {labels.run_number}", reason))
    return admitted, refused


def awaited(planned: Iterable[Job], admitted: Iterable[Record]) -> list[Job]:
    """Planned jobs of the evaluations that admitted records are of. A plan does not say whether its images are generated; records do."""
    begun = {_evaluation(record.job) for record in admitted}
    return [job for job in planned if _evaluation(job) in begun]


def on_published_images(record: Record) -> bool:
    """Whether a record was trained, selected and tested on the images of its task's own split.

    What the record used is in its digests of ids. What the published lists hold is a fact of the release, on the dataset's card. Training
    and validation count too: a patient-disjoint split keeps the test images and is not what a paper did. A task that trains nothing only
    has test images.
    """
    experiment = record.job.experiment
    task, card = registry.tasks().get(record.job.labels.task), registry.datasets().get(experiment.dataset.name)
    if task is None or card is None or task.split not in card.splits or experiment.dataset.split not in (task.split, LISTS):
        return False
    expected = card.splits[task.split].expected
    trained = {} if experiment.words is not None else {"train": experiment.fraction, "validation": experiment.recipe.validation_subset}
    shares = trained | {"test": 1.0}
    known = {split: expected.get(split if share == 1 else f"{split}_{round(100 * share)}pct") for split, share in shares.items()}
    return all(
        counts is not None and counts.sha256_sorted is not None and counts.sha256_sorted == record.sample_digests.get(f"{split} sorted")
        for split, counts in known.items()
    )


def _evaluation(job: Job) -> tuple[str, str, str, str, str, bool]:
    labels, dataset = job.labels, job.experiment.dataset
    return labels.backbone, labels.task, labels.protocol, dataset.digest, dataset.split, job.limited


def _why_refused(record: Record, card: PaperCard, compared: set[str]) -> str | None:
    labels, dataset = record.job.labels, record.job.experiment.dataset
    if record.phantom:
        return "phantom data never stands beside published numbers"
    if record.scale == "limited":
        return f"{f'partial releases ({dataset.partial})' if dataset.partial else 'limited runs'} never stand beside published numbers"
    if labels.protocol != card.protocol:
        return f"protocol {labels.protocol!r}; only {card.protocol!r} repeats what the paper did"
    if labels.task not in compared:
        return "no published cell has this task's images and protocol"
    # Searches and failures have no test result to compare: they only explain a dash.
    if record.status == "ok" and record.job.experiment.role is Role.FINAL and not on_published_images(record):
        return f"its images are not those of the published lists (split {dataset.split!r})"
    return None
