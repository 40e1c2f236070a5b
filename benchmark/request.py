"""What a user asks for, and the jobs planned from it: names resolved, images digested, what is stored set aside. Nothing is computed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from typing import Protocol as TypingProtocol

from benchmark import adopt, registry, requested_jobs, resolve, task_code
from benchmark.cards import EncoderMode, Job, Protocol, TaskCard
from benchmark.encoders import naming
from benchmark.encoders.library_weights import without_asking
from benchmark.errors import LobeError, UsageError
from benchmark.events import Event, Hashing
from benchmark.execute import addresses
from benchmark.execute.equipment import DeviceChoice, Equipment, stored_otherwise
from benchmark.execute.executors import Executor
from benchmark.execute.executors import executor as executor_of
from benchmark.execute.work import WorkUnit, units
from benchmark.machine import usable_cores
from benchmark.plan import RELEASED, Settings
from benchmark.readers.kit.chosen_split import rule_of_card
from benchmark.requested_jobs import Datasets, Done, Jobs
from benchmark.shelf import Shelf
from benchmark.store import Store
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions

DESCRIBED_AT_ONCE = 4  # factories: each builds its network in memory, twice


@dataclass(frozen=True)
class Request:
    """What a user asks for, in the words of the command line.

    Attributes:
        data: `DIR` or `name=path` entries.
        protocol: None takes the suite's, or the first that all tasks offer.
        split: a split of the dataset cards; None takes each task card's.
        checkpoints: folder for mid-training checkpoints of long jobs, seen by every node; None makes none.
        workers_per_job: processes, each with a device of its own, that share the batches of a fine-tuning job.
        compiled: run by `torch.compile` what trains. Changes no result beyond rounding.
        retries: of jobs whose process was lost.
        splits: folder with one sub-folder of split lists per dataset, instead of a rule.
        runs: final runs per task; None takes each card's number.
        device: device type of every job, part of its key; `auto` takes GPUs where a node that computes has one, not the driver.
        cache_budget: memory of a node for the features of frozen encoders, such as 4GB; None takes the default. Changes no result.
        verbose: say which files of the user's own travel to a cluster, beside how many.
    """

    backbones: Sequence[str]
    tasks: Sequence[str] = ()
    suite: str | None = None
    data: Sequence[str] = ()
    out: Path = Path("lobe-out")
    cache: Path | None = None
    cache_budget: str | None = None
    executor: Literal["ray", "inline"] = "ray"
    address: str | None = None
    device: DeviceChoice = "auto"
    protocol: str | None = None
    runs: int | None = None
    limit: int | None = None
    profile: Literal["full", "smoke"] = "full"
    threads: int = 1
    split: str | None = None
    splits: Path | None = None
    retry_failed: bool = False
    tracking: bool = True
    checkpoints: Path | None = None
    workers_per_job: int = 1
    compiled: bool = False
    retries: int = 2
    verbose: bool = False


@dataclass(frozen=True)
class Problem:
    """Something the user named that cannot be used; the rest goes on without it."""

    what: str
    sentence: str


@dataclass(frozen=True)
class Unhashed:
    """Files of a dataset whose content is not known yet."""

    dataset: str
    n_files: int
    n_bytes: int


@dataclass(frozen=True)
class Planned:
    """Jobs of a request, those already stored, and what had to be left out.

    Attributes:
        tasks: names of the tasks that the jobs are of.
        adopted: how many of the stored ones are results of an earlier release, taken over just now (`benchmark.adopt`).
        unhashed: in a dry run, datasets that were not hashed yet.
        provisional: keys of their jobs, and of backbones whose weights were not fetched yet. No run will have them: nobody knows which of
            these jobs are stored.
        earlier: keys of jobs whose result of an earlier release a run will take over, if it was computed on the same images.
    """

    request: Request
    jobs: Jobs
    tasks: tuple[str, ...]
    done: Done
    todo: tuple[WorkUnit, ...]
    protocol: Protocol
    equipment: Equipment
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    adopted: int = 0
    unhashed: tuple[Unhashed, ...] = ()
    provisional: frozenset[str] = frozenset()
    earlier: frozenset[str] = frozenset()

    @property
    def n_todo(self) -> int:
        return sum(len(unit.jobs) for unit in self.todo)


class Watcher(TypingProtocol):
    """Whoever wants to see an evaluation happen."""

    def planned(self, planned: Planned) -> None: ...

    def event(self, event: Event) -> None: ...


class Silent:
    """The watcher of a notebook or a test."""

    def planned(self, planned: Planned) -> None:
        return None

    def event(self, event: Event) -> None:
        return None


def plan_request(request: Request, watcher: Watcher, executor: Executor | None, *, hashing: bool, adopting: bool) -> Planned:
    """Resolves names and folders and plans every job.

    Args:
        watcher: sees how far the hashing of images is.
        executor: that will run the jobs; None makes one for the question and closes it.
        hashing: False reads no image and asks no network: keys of jobs on datasets that were never hashed, or of weights that are not
            on this machine, are then provisional.
        adopting: takes over results of an earlier release, which writes into the output folder.

    Raises:
        LobeError: nothing could be planned. A part that cannot be used is a `Problem` instead, when something else can.
    """
    _require_consistent(request)
    cards = resolve.tasks(request.tasks, request.suite)
    protocol = registry.protocol(request.protocol or _default_protocol(request.suite, cards))
    options, cache = _options(request), resolve.cache_folder(request.cache)
    roots = resolve.data_roots(request.data)
    problems: list[Problem] = []
    backbones: list[resolve.ResolvedBackbone] = []
    reads_words = any(card.words is not None for card in cards)
    for name, resolved in _side_by_side(request.backbones, cache, reads_words=reads_words, asking=hashing):
        with _collected(problems, f"backbone {name}"):
            found = resolved()
            found.require_statistics(protocol)
            backbones.append(found)
    equipment = _equipment(request, executor)  # before images are hashed: a cluster that does not answer is told at once
    datasets = _datasets(request, cards, protocol, roots, cache, watcher, problems, hashing=hashing)
    if not backbones or not datasets:
        raise LobeError("\n".join(p.sentence for p in problems) or "No backbone was named.")
    settings = Settings(
        runs=request.runs,
        limit=request.limit,
        profile=request.profile,
        device_type=equipment.device_type,
        threads=request.threads,
        suite=request.suite,
    )
    store, shelf = Store(request.out), Shelf(request.out)
    listed = requested_jobs.listed(cards, backbones, datasets, request.split, protocol, settings, shelf)
    earlier = adopt.candidates(listed.pending.values(), shelf, backbones, list(datasets.values()))
    adopted = adopt.adopt(earlier, store, functools.partial(_hashing, watcher, "earlier results")) if adopting and earlier else []
    if adopted:
        shelf = Shelf(request.out)
    done = requested_jobs.done_of(listed.jobs.keys, shelf, retry_failed=request.retry_failed)
    shelf.save()
    pending = [job for key, job in listed.pending.items() if key not in done]
    inputs = _inputs(pending, listed.backbones, datasets, cache, cards)
    todo = [
        replace(
            unit,
            options=options,
            workers=request.workers_per_job if unit.jobs[0].experiment.encoder is EncoderMode.FINETUNE else 1,
        )
        for unit in units(pending, inputs)
    ]
    warnings = [
        *stored_otherwise(pending, done, shelf, request.device, equipment),
        *(text for d in datasets.values() for text in d.warnings),
        *(_unfetched(b) for b in backbones if b.named.ref.digest == resolve.UNFETCHED),
        *listed.will_fail,
    ]
    return Planned(
        request,
        listed.jobs,
        listed.tasks,
        done,
        tuple(todo),
        protocol,
        equipment,
        tuple(dict.fromkeys(problems)),
        tuple(dict.fromkeys(warnings)),
        adopted=len(adopted),
        unhashed=tuple(Unhashed(d.card.name, d.n_unhashed, d.unhashed_bytes) for d in datasets.values() if d.n_unhashed),
        provisional=frozenset(key for key, job in listed.pending.items() if _is_provisional(job)),
        earlier=frozenset(candidate.job.key for candidate in earlier) - {record.key for record in adopted},
    )


def _is_provisional(job: Job) -> bool:
    return job.experiment.dataset.digest == resolve.UNHASHED or job.experiment.backbone.digest == resolve.UNFETCHED


def _unfetched(backbone: resolve.ResolvedBackbone) -> str:
    return f"{backbone.named.label}: its weights are not on this machine. A run downloads them first; only then do its jobs have keys."


def _side_by_side(
    names: Iterable[str], cache: Path, *, reads_words: bool, asking: bool
) -> Iterator[tuple[str, Callable[[], resolve.ResolvedBackbone]]]:
    """Each name once, and what gives or raises what came of it: factories, which are built in processes of their own, several at a time."""

    def resolved(name: str) -> resolve.ResolvedBackbone:
        with contextlib.nullcontext() if asking else without_asking():
            return resolve.backbone(name, cache, reads_words=reads_words)

    distinct = list(dict.fromkeys(names))
    with ThreadPoolExecutor(min(DESCRIBED_AT_ONCE, usable_cores()), thread_name_prefix="describe") as pool:
        ahead = {name: pool.submit(resolved, name) for name in distinct if naming.is_factory(name)}
        for name in distinct:
            yield name, ahead[name].result if name in ahead else functools.partial(resolved, name)


def _default_protocol(suite: str | None, cards: Sequence[TaskCard]) -> str:
    """The suite's, else the first that all tasks offer; `published` where they share none, which its error says."""
    if suite is not None:
        return registry.suite(suite).default_protocol
    return next((name for name in registry.protocols() if all(name in card.protocols for card in cards)), RELEASED)


def executor_for(request: Request, shipped: bool = True) -> Executor:
    """What will run the jobs of a request.

    Args:
        shipped: the user's own backbones travel to the cluster; only what computes needs them.
    """
    backbones = resolve.files_of_authors(request.backbones) if shipped else ()
    return executor_of(request.executor, request.address, request.retries, backbones, request.verbose)


def _require_consistent(request: Request) -> None:
    """Raises UsageError where two wishes contradict each other, or one cannot be."""
    if request.limit is not None and request.limit < 2:
        raise UsageError(f"--limit {request.limit}: at least 2 images per split are needed.")
    if request.runs is not None and request.runs < 1:
        raise UsageError(f"--seeds {request.runs}: at least one run.")
    if request.executor == "inline" and request.workers_per_job > 1:
        raise UsageError(f"--workers-per-job {request.workers_per_job} needs Ray, which starts the processes: leave --executor inline out.")
    if request.compiled and request.workers_per_job > 1:
        raise UsageError("--compile is for jobs of one process, which --workers-per-job makes several: use either.")
    if request.executor == "inline" and request.address is not None:
        raise UsageError(f"--address {request.address} needs Ray: leave --executor inline out.")
    if request.address is not None:
        addresses.checked(request.address)
    if request.split is not None and request.splits is not None:
        raise UsageError("--split names a rule and --splits gives lists instead of one: use either.")


def _datasets(
    request: Request,
    cards: Sequence[TaskCard],
    protocol: Protocol,
    roots: dict[str | None, Path],
    cache: Path,
    watcher: Watcher,
    problems: list[Problem],
    *,
    hashing: bool,
) -> Datasets:
    """Every dataset that a task needs and that can be used; what cannot is added to `problems`."""
    wanted = tuple(dict.fromkeys((card.dataset, request.split or card.split, card.words is None) for card in cards))
    datasets: dict[tuple[str, str, bool], resolve.ResolvedDataset] = {}
    for name in dict.fromkeys(name for name, _, _ in wanted):
        # Opened once for all of its splits and then let go of: a release may list hundreds of thousands of images.
        opened: resolve.OpenedRelease | None = None
        for split, trains in ((split, trains) for other, split, trains in wanted if other == name):
            with _collected(problems, f"dataset {name}"):
                card = registry.dataset(name)
                root = resolve.dataset_root(card, roots)
                lists = None if request.splits is None else request.splits / name
                if lists is None:
                    rule_of_card(card, split)  # told before the folder is read
                opened = opened or resolve.opened_release(card, root, protocol)
                found = resolve.dataset(
                    card,
                    root,
                    protocol,
                    split,
                    lists,
                    opened=opened,
                    trains=trains,
                    limit=request.limit,
                    cache=cache,
                    hashing=hashing,
                    progress=functools.partial(_hashing, watcher, name),
                )
                if request.limit is None:
                    found.require_known()
                datasets[name, split, trains] = found
    return {seen: datasets[seen] for seen in wanted if seen in datasets}


def _inputs(
    jobs: Iterable[Job],
    backbones: Mapping[str, resolve.ResolvedBackbone],
    datasets: Datasets,
    cache: Path,
    cards: Sequence[TaskCard],
) -> dict[str, Inputs]:
    """Where the inputs of jobs lie, by key: one object for all jobs of a backbone on a dataset."""
    by_ref = {(d.card.name, d.ref.split, trains): d for (_, _, trains), d in datasets.items()}
    lie: dict[tuple[int, int], Inputs] = {}
    found: dict[str, Inputs] = {}
    for job in jobs:
        e, backbone = job.experiment, backbones[job.key]
        dataset = by_ref[e.dataset.name, e.dataset.split, e.words is None]
        place = (id(backbone), id(dataset))
        if place not in lie:
            own = (one for card in cards if card.dataset == e.dataset.name for one in task_code.of_task(card))
            lie[place] = resolve.inputs(backbone, dataset, cache, tuple(own))
        found[job.key] = lie[place]
    return found


@contextlib.contextmanager
def _collected(problems: list[Problem], what: str) -> Iterator[None]:
    try:
        yield
    except LobeError as error:
        problems.append(Problem(what, str(error)))


def _equipment(request: Request, executor: Executor | None) -> Equipment:
    if executor is not None:
        return executor.equipment(request.device)
    with contextlib.closing(executor_for(request, shipped=False)) as asked:
        return asked.equipment(request.device)


def _options(request: Request) -> RunOptions:
    """How every job of a request runs.

    Raises:
        UsageError: the cache budget is no size.
    """
    options = RunOptions(checkpoints=None if request.checkpoints is None else request.checkpoints.resolve(), compiled=request.compiled)
    if request.cache_budget is None:
        return options
    return replace(options, feature_budget_bytes=resolve.size_bytes(request.cache_budget))


def _hashing(watcher: Watcher, dataset: str, done_bytes: int, total_bytes: int) -> None:
    watcher.event(Hashing(dataset, done_bytes, total_bytes))
