"""What a record of somebody else claims and cards can contradict: its recipe, its release, that its data is real, what pretraining saw.

A record's job is planned again from today's cards; one that no card plans has another recipe, other seeds or another split. A release is
known where the dataset's card has the digest of its test images. Contamination follows from the backbone's card and the datasets'; a record
may admit more than its card says, and never less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal

from benchmark import registry
from benchmark.cards import BackboneCard, BackboneRef, Contamination, DatasetCard, DatasetRef, Record, Role, SplitCounts, TaskCard
from benchmark.contamination import contamination_of
from benchmark.encoders.naming import PYTHON
from benchmark.errors import LobeError
from benchmark.imaging.prepare import intensity_under
from benchmark.plan import NamedBackbone, Settings, plan

_ORDER = list(Contamination)  # rising in what is kept out of a headline
OWN = frozenset({"task", "dataset", "protocol", "prompts"})  # what of a job may not come from its author's own cards

Cards = Mapping[str, BackboneCard]


def fault_in(record: Record, cards: Cards | None = None) -> str:
    """The first claim of a record that cards contradict, as a clause; empty where none do.

    Args:
        cards: of backbones that came with the record, by what tables call them; LOBE's own go before them.
    """
    job = record.job
    task, dataset = registry.tasks().get(job.labels.task), registry.datasets().get(job.experiment.dataset.name)
    if task is None or dataset is None or OWN & set(job.labels.custom):
        return f"it is of the task {job.labels.task} on {job.experiment.dataset.name}, which are not LOBE's"
    if task.dataset != dataset.name:
        return f"it is of the task {task.id}, which is on {task.dataset}, and was computed on {dataset.name}"
    return (
        _fault_of_agreement(record, dataset)
        or _fault_of_recipe(record, task, dataset)
        or _fault_of_release(record, dataset)
        or _fault_of_contamination(record, cards or {})
    )


def is_known_release(record: Record) -> bool:
    """Whether a card of the release has the digest of these test images, under any split; generated data needs none."""
    dataset = registry.datasets().get(record.job.experiment.dataset.name)
    if record.phantom or dataset is None:
        return record.phantom
    of_release = [card for card in registry.datasets().values() if card.folder == dataset.folder]
    known = {rule.expected["test"].sha256_sorted for card in of_release for rule in card.splits.values() if "test" in rule.expected}
    return record.sample_digests.get("test sorted") in known - {None}


def is_of_today(record: Record) -> bool:
    """Whether the record's task has the version of today's card, so that its recipe was held to it."""
    task = registry.tasks().get(record.job.labels.task)
    return task is not None and task.version == record.job.experiment.task_version


def contradictions(records: Iterable[Record]) -> list[str]:
    """What records of one backbone say of its pretraining that cannot all be true: it saw a dataset, and not one of the same images."""
    marks: dict[tuple[str, str | None], dict[str, set[Contamination]]] = {}
    for record in records:
        ref, labels = record.job.experiment.backbone, record.job.labels
        if not ref.is_untrained and labels.contamination is not None:
            of = marks.setdefault((labels.backbone, ref.digest), {})
            of.setdefault(record.job.experiment.dataset.name, set()).add(labels.contamination)
    found = []
    for (backbone, _), said in marks.items():
        for name, each in said.items():
            if len(each) > 1:
                found.append(f"{backbone}: its records say both {' and '.join(sorted(each))} of {name}.")
        seen = {name: max(each, key=_ORDER.index) for name, each in said.items()}
        known = {name: mark for name, mark in seen.items() if mark in (Contamination.IMAGES, Contamination.LABELS)}
        derived = contamination_of(tuple(known), known)
        for name, mark in seen.items():
            if known and _ORDER.index(mark) < _ORDER.index(Contamination.IMAGES) <= _ORDER.index(derived.get(name, mark)):
                found.append(f"{backbone}: it saw {', '.join(known)}, whose images {name} shares, and says {mark} of {name}.")
    return found


def derived_contamination(record: Record, cards: Cards) -> Contamination | None:
    """What follows from the card of the record's backbone; None where its author's own code alone can say."""
    ref, label, dataset = record.job.experiment.backbone, record.job.labels.backbone, record.job.experiment.dataset
    if ref.is_untrained:
        return Contamination.NONE
    card = _card_of(ref, label, cards)
    if card is None:
        return None if ref.family == PYTHON else Contamination.UNKNOWN
    seen = contamination_of(card.pretraining, card.contamination)
    return max((seen.get(name, Contamination.UNKNOWN) for name in dataset.parts or (dataset.name,)), key=_ORDER.index)


def _fault_of_agreement(record: Record, dataset: DatasetCard) -> str:
    if record.redistribution == dataset.redistribution:
        return ""
    return f"it says its data may be passed on as {record.redistribution}, and the card of {dataset.name} says {dataset.redistribution}"


def _fault_of_recipe(record: Record, task: TaskCard, dataset: DatasetCard) -> str:
    experiment, labels = record.job.experiment, record.job.labels
    rules = registry.protocols().get(labels.protocol)
    if rules is None:
        return f"LOBE has no protocol {labels.protocol}"
    if experiment.task_version > task.version:
        return f"it is of version {experiment.task_version} of {task.id}, and LOBE has version {task.version}"
    if experiment.task_version < task.version:
        return ""  # of an earlier release, whose cards are not here: `is_of_today`
    ref = experiment.dataset
    of_card = (dataset.classes, dataset.statistics, intensity_under(dataset, rules.equalise), rules.statistics)
    if (ref.classes, ref.statistics, ref.intensity, ref.normalised_by) != of_card:
        return f"its images and classes are not those of the card of {dataset.name} under the protocol {rules.name}"
    if ref.split not in dataset.splits or ref.split_rule != dataset.splits[ref.split].model_copy(update={"expected": {}}):
        return f"its split {ref.split} is none of the card of {dataset.name}, or follows another rule"
    if experiment.learning_rate is not None and record.learning_rate != experiment.learning_rate:
        return f"its learning rate is {record.learning_rate}, and its job's is {experiment.learning_rate:g}"
    backbone = experiment.backbone.model_copy(update={"init_seed": None})
    given = (task.id, labels.protocol, backbone.canonical, ref.canonical, experiment.device_type, experiment.threads)
    if experiment.role is Role.FINAL:
        planned = _planned(*given)
        if record.key not in planned:
            return f"no card plans such a job of {task.id} under {labels.protocol}: its recipe, seeds or switches are others"
        if not planned[record.key] <= set(record.job.depends_on):
            return "it does not name all runs of the search that its learning rate comes from"
    return ""


@cache
def _planned(
    task: str, protocol: str, backbone: str, dataset: str, device_type: Literal["cpu", "cuda"], threads: int
) -> dict[str, frozenset[str]]:
    """Runs that cards plan for a backbone and a dataset (the JSON of their references): key -> keys of the search it waits for."""
    ref = DatasetRef.model_validate_json(dataset)
    # Under a native geometry the frame is the backbone's own input size, which its job alone says.
    named = NamedBackbone("", BackboneRef.model_validate_json(backbone), input_size=ref.frame_size)
    settings = Settings(device_type=device_type, threads=threads)
    try:
        jobs = plan([registry.task(task)], [named], {ref.name: ref}, registry.protocol(protocol), settings, registry.prompts())
    except LobeError:
        return {}
    return {job.key: frozenset(job.depends_on) for job in jobs}


def _fault_of_release(record: Record, dataset: DatasetCard) -> str:
    """Images that the release's own lists do not have: generated data under a real name, another release, or another list."""
    if record.phantom:
        return ""
    for split, counts in _expected(record, dataset).items():
        if split not in record.counts and record.job.experiment.role is Role.SELECTION:
            continue  # a search that leaves the test split closed, or that was not needed
        digest, n_images = record.sample_digests.get(f"{split} sorted"), record.counts.get(split, {}).get("images")
        if counts.sha256_sorted is not None and digest != counts.sha256_sorted:
            return (
                f"its {split} images are not those of the public release of {dataset.name}: "
                "generated data, another release, or another list"
            )
        if n_images != counts.n_images:
            return f"it counts {n_images} {split} images, and the public release of {dataset.name} has {counts.n_images:,}"
    return ""


def _expected(record: Record, dataset: DatasetCard) -> dict[str, SplitCounts]:
    """Split -> what the card expects of it, as the record's task uses it; without splits that no card counts."""
    experiment = record.job.experiment
    rule = dataset.splits.get(experiment.dataset.split)
    if rule is None:
        return {}
    trained = {} if experiment.words is not None else {"train": experiment.fraction, "validation": experiment.recipe.validation_subset}
    names = {split: split if share == 1 else f"{split}_{round(100 * share)}pct" for split, share in (trained | {"test": 1.0}).items()}
    # A task may draw or shorten training and validation lists in ways of its own; the test list is the same for all.
    return {split: rule.expected[name] for split, name in names.items() if name in rule.expected and _is_as_listed(record, split)}


def _is_as_listed(record: Record, split: str) -> bool:
    """Whether the record's protocol takes a split as the release's lists have it."""
    switches = record.job.experiment.switches
    drawn = switches.label_draw != "prefix"
    fewer = switches.validation_labels != "as-released"
    return split == "test" or not (drawn if split == "train" else drawn or fewer)


def _fault_of_contamination(record: Record, cards: Cards) -> str:
    said, derived = record.job.labels.contamination, derived_contamination(record, cards)
    if said is None:
        return "it does not say what pretraining saw of its dataset"
    if derived is None or _ORDER.index(said) >= _ORDER.index(derived):
        return ""
    return f"it says that pretraining saw {said} of {record.job.experiment.dataset.name}, and what is known of its backbone says {derived}"


def _card_of(ref: BackboneRef, label: str, cards: Cards) -> BackboneCard | None:
    """The card under that name which is of this family, and of these weights where it says which."""
    own = {card.title or name: card for name, card in registry.backbones().items()}
    candidates = [own.get(label), own.get(label.partition(" (")[0]), cards.get(label)]
    fitting = (card for card in candidates if card is not None and card.family == ref.family)
    return next((card for card in fitting if not card.digest.startswith("sha256:") or card.digest == f"sha256:{ref.digest}"), None)
