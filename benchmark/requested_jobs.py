"""The jobs of a request and which of them are done, held small: of a job that is done nothing but its key stays, however many there are.

Which cards, backbones and datasets a request names is decided in `request`; what a job is, in `plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from benchmark import registry, resolve, task_code
from benchmark.cards import Job, Protocol, Record, TaskCard
from benchmark.encoders import naming
from benchmark.plan import About, Settings, no_garbage, prepare
from benchmark.shelf import Shelf
from benchmark.training.sizes import SplitSizes, chosen, no_images, too_few

Datasets = Mapping[tuple[str, str, bool], resolve.ResolvedDataset]
"""By name, split and whether jobs train on it."""


class Jobs(Sequence[Job]):
    """The jobs of a request in plan order, each once. Of a job that is done nothing but its key is kept: jobs are made anew when asked for.

    Args:
        make: gives the jobs, the same every time.
        keys: of the jobs that `make` gives; None where a job's key came before.
        twins: jobs whose key came before, by key: the last of them stands in the first one's place.
    """

    def __init__(self, make: Callable[[], Iterable[Job]], keys: Sequence[str | None], twins: Mapping[str, Job]):
        self._make, self._keys, self._twins = make, keys, twins
        self._n = sum(key is not None for key in keys)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Job]:
        for key, job in zip(self._keys, self._make(), strict=True):
            if key is not None:
                job.__dict__["key"] = key  # as its cached property would
                yield self._twins.get(key, job)

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> list[Job]: ...
    def __getitem__(self, place: int | slice) -> Job | list[Job]:
        return list(self)[place]

    @property
    def keys(self) -> Iterator[str]:
        return (key for key in self._keys if key is not None)


class Done(Mapping[str, Record]):
    """Stored results of jobs of a plan that need not be computed again: known by key, read without their curves when asked for.

    Attributes:
        shelf: the listing that they are of.
    """

    def __init__(self, shelf: Shelf, statuses: Mapping[str, str]):
        self.shelf, self._statuses = shelf, statuses

    def __len__(self) -> int:
        return len(self._statuses)

    def __iter__(self) -> Iterator[str]:
        return iter(self._statuses)

    def __contains__(self, key: object) -> bool:
        return key in self._statuses

    def __getitem__(self, key: str) -> Record:
        if key not in self._statuses:
            raise KeyError(key)
        return self.shelf.read(key)

    def status(self, key: str) -> str:
        """ok or failed. Reads no record."""
        return self._statuses[key]


@dataclass(frozen=True)
class Listed:
    """What one pass over the jobs of a request finds.

    Attributes:
        tasks: names of their tasks.
        pending: those without a result, or with a failed one, by key.
        backbones: of the pending jobs, by key.
        will_fail: a sentence for every task that has too few images to train or test on, and for every one that asks in words a backbone
            without a text side: each of its jobs will end with the same one.
    """

    jobs: Jobs
    tasks: tuple[str, ...]
    pending: dict[str, Job]
    backbones: dict[str, resolve.ResolvedBackbone]
    will_fail: tuple[str, ...]


def listed(
    cards: Sequence[TaskCard],
    backbones: Sequence[resolve.ResolvedBackbone],
    datasets: Datasets,
    split: str | None,
    protocol: Protocol,
    settings: Settings,
    shelf: Shelf,
) -> Listed:
    """Jobs of every task whose dataset can be used, each once. Those that are done are let go of as they come.

    Tasks that see the same images of a split are planned together.

    Args:
        split: of the request, in place of the tasks' own.
    """
    about = About(registry.custom_cards(), {d.card.name: d.card.mask_source for d in datasets.values()})
    own_code = {card.id: task_code.digests(task_code.of_task(card)) for card in cards}
    prepared = []
    for seen in dict.fromkeys((split or card.split, card.words is None) for card in cards):
        refs = {name: d.ref for (name, *of), d in datasets.items() if tuple(of) == seen}
        usable = [card for card in cards if (split or card.split, card.words is None) == seen and card.dataset in refs]
        prepared.append(prepare(usable, refs, protocol, settings, registry.prompts(), about, own_code))

    def made() -> Iterator[tuple[resolve.ResolvedBackbone, Job]]:
        return ((backbone, job) for one in prepared for backbone in backbones for job in one.jobs(backbone.named))

    keys: list[str | None] = []
    known: set[str] = set()
    twins: dict[str, Job] = {}
    tasks: dict[str, None] = {}
    will_fail: dict[str, None] = {}
    pending: dict[str, Job] = {}
    lie: dict[str, resolve.ResolvedBackbone] = {}
    sizes = {(d.card.name, d.ref.split): d.sizes for d in datasets.values()}
    with no_garbage():
        for backbone, job in made():
            key = job.key
            if key in known:
                twins[key] = job
            keys.append(None if key in known else key)
            known.add(key)
            tasks[job.labels.task] = None
            if (why := _why_it_fails(job, sizes)) is not None:
                will_fail[f"{job.labels.task} will fail: {why}"] = None
            facts = shelf.facts(key)
            if facts is None or facts.status != "ok":
                pending[key], lie[key] = job, backbone
    jobs = Jobs(lambda: (job for _, job in made()), keys, twins)
    return Listed(jobs, tuple(tasks), pending, lie, tuple(will_fail))


def _why_it_fails(job: Job, sizes: Mapping[tuple[str, str], SplitSizes]) -> str | None:
    e = job.experiment
    if e.words is not None and e.backbone.family in naming.IMAGES_ONLY:
        return f"it compares images with words, and {job.labels.backbone} has no text side (docs/classification.md)."
    used = chosen(e, sizes[e.dataset.name, e.dataset.split])
    return no_images(e, used) or too_few(e, used)


def done_of(keys: Iterable[str], shelf: Shelf, *, retry_failed: bool) -> Done:
    """Stored records of these jobs that need not be computed again."""
    stored = {key: facts.status for key in keys if (facts := shelf.facts(key)) is not None and not facts.environment}
    done = {key: status for key, status in stored.items() if status == "ok" or not retry_failed}
    failed = [key for key, status in done.items() if status != "ok"]
    # A job that failed for want of a selection run is tried again when that run is computed again.
    again = [key for key in failed if not all(needed in done for needed in shelf.read(key).job.depends_on)]
    return Done(shelf, {key: status for key, status in done.items() if key not in again})
