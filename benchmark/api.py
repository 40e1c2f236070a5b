"""The verbs, as a notebook calls them: `evaluate`, `plan_jobs`, `report`. The command line adds only words and colours."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from typing import Protocol as TypingProtocol

from benchmark import adopt, registry, resolve
from benchmark.cards import EncoderMode, Job, Protocol, Record, TaskCard
from benchmark.errors import DamagedResult, LobeError, UsageError
from benchmark.events import EpochEnded, Event, Finished, Hashing
from benchmark.execute import addresses
from benchmark.execute.costs import Costs
from benchmark.execute.equipment import Asked, Equipment, stored_otherwise
from benchmark.execute.executors import Executor
from benchmark.execute.executors import executor as executor_of
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import WorkUnit, units
from benchmark.faults import of_environment
from benchmark.plan import About, Settings, plan
from benchmark.store import Refused, Store
from benchmark.tracking.spool import behind
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions
from benchmark.training.sizes import chosen, no_images, too_few

if TYPE_CHECKING:
    from benchmark.execute.forecast import Forecast
    from benchmark.report.reproduce import Reproduction


@dataclass(frozen=True)
class Request:
    """What a user asks for, in the words of the command line.

    Attributes:
        data: `DIR` or `name=path` entries.
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
    device: Asked = "auto"
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
        adopted: how many of the stored ones are results of an earlier release, taken over just now (`benchmark.adopt`).
        unhashed: in a dry run, datasets that were not hashed yet.
        provisional: keys of their jobs, which no run will have: nobody knows which of these jobs are stored.
        earlier: keys of jobs whose result of an earlier release a run will take over, if it was computed on the same images.
    """

    request: Request
    jobs: tuple[Job, ...]
    done: dict[str, Record]
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


@dataclass
class Evaluation:
    """What came of a request: the records of its jobs, in plan order, failed ones included.

    Attributes:
        computed: jobs whose result was stored now. A job that a fault of the environment stopped has a record here and none in the store.
    """

    planned: Planned
    records: list[Record] = field(default_factory=list)
    computed: int = 0
    tracking_problem: str | None = None

    @property
    def failures(self) -> list[Record]:
        return [r for r in self.records if r.status == "failed"]

    @property
    def not_computed(self) -> list[Record]:
        """Failures that are the environment's: the same command computes these jobs again."""
        return [r for r in self.failures if of_environment(r.failure)]


@dataclass(frozen=True)
class Reported:
    """The page of a report, and the stored records that it does not believe."""

    page: Path
    refused: tuple[Refused, ...]


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


def plan_jobs(request: Request, watcher: Watcher | None = None, executor: Executor | None = None, *, hashing: bool = True) -> Planned:
    """Resolves names and folders and plans every job; nothing is computed and nothing is written but caches of digests.

    With an address it asks the cluster for its nodes, since they decide for which device is planned.

    Args:
        watcher: sees how far the hashing of images is.
        executor: that will run the jobs; None makes one for the question and closes it.
        hashing: False reads no image: keys of jobs on datasets that were never hashed are then provisional.

    Raises:
        LobeError: nothing could be planned. A part that cannot be used is a `Problem` instead, when something else can.
    """
    return _plan(request, watcher or Silent(), executor, hashing=hashing, adopting=False)


def _plan(request: Request, watcher: Watcher, executor: Executor | None, *, hashing: bool, adopting: bool) -> Planned:
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
    cards = resolve.tasks(request.tasks, request.suite)
    suite_protocol = registry.suite(request.suite).default_protocol if request.suite else "published"
    protocol = registry.protocol(request.protocol or suite_protocol)
    options = _options(request)
    cache = resolve.cache_folder(request.cache)
    roots = resolve.data_roots(request.data)
    problems: list[Problem] = []
    backbones: list[resolve.ResolvedBackbone] = []
    datasets: dict[tuple[str, str, bool], resolve.ResolvedDataset] = {}
    for name in dict.fromkeys(request.backbones):
        with _collected(problems, f"backbone {name}"):
            backbones.append(resolve.backbone(name, cache))
    equipment = _equipment(request, executor)  # before images are hashed: a cluster that does not answer is told at once
    for name, split, trains in dict.fromkeys((card.dataset, request.split or card.split, card.words is None) for card in cards):
        with _collected(problems, f"dataset {name}"):
            card = registry.dataset(name)
            lists = None if request.splits is None else request.splits / name
            found = resolve.dataset(
                card,
                resolve.dataset_root(card, roots),
                protocol,
                split,
                lists,
                trains=trains,
                limit=request.limit,
                cache=cache,
                hashing=hashing,
                progress=functools.partial(_hashing, watcher, name),
            )
            if request.limit is None:
                found.require_known()
            datasets[name, split, trains] = found
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
    jobs, inputs = _jobs(cards, backbones, datasets, request, protocol, settings, cache)
    store = Store(request.out)
    earlier = adopt.candidates(jobs, store, backbones, list(datasets.values()))
    adopted = adopt.adopt(earlier, store, functools.partial(_hashing, watcher, "earlier results")) if adopting and earlier else []
    stored = {job.key: record for job in jobs if (record := store.get(job.key)) is not None}
    done = {key: record for key, record in stored.items() if record.status == "ok" or not request.retry_failed}
    # Whatever failed for want of a selection run has a new chance when that is computed again.
    done = {key: r for key, r in done.items() if r.status == "ok" or all(needed in done for needed in r.job.depends_on)}
    todo = [replace(unit, options=options) for unit in units([job for job in jobs if job.key not in done], inputs)]
    warnings = [
        *stored_otherwise(jobs, done, store, request.device, equipment),
        *(text for d in datasets.values() for text in d.warnings),
        *_what_will_fail(jobs, datasets.values()),
    ]
    return Planned(
        request,
        tuple(jobs),
        done,
        tuple(todo),
        protocol,
        equipment,
        tuple(dict.fromkeys(problems)),
        tuple(dict.fromkeys(warnings)),
        adopted=len(adopted),
        unhashed=tuple(Unhashed(d.card.name, d.n_unhashed, d.unhashed_bytes) for d in datasets.values() if d.n_unhashed),
        provisional=frozenset(job.key for job in jobs if job.experiment.dataset.digest == resolve.UNHASHED),
        earlier=frozenset(candidate.job.key for candidate in earlier) - {record.key for record in adopted},
    )


def forecast(planned: Planned) -> Forecast:
    """What the jobs still to compute will take where they are planned to run, from measured costs where known."""
    from benchmark.execute import forecast as forecasting

    return forecasting.forecast(_equipped(planned.todo, planned.request, ""), costs_of(planned.request), planned.equipment)


def costs_of(request: Request) -> Costs:
    """What jobs took before on this machine, as its cache remembers."""
    return Costs(resolve.cache_folder(request.cache) / "costs.json")


def evaluate(request: Request, watcher: Watcher | None = None) -> Evaluation:
    """Plans, runs what is not stored yet, stores every record as it comes, and tracks it.

    Raises:
        LobeError: nothing could start, or the output folder cannot be used (what was stored stays).
    """
    watcher = watcher or Silent()
    store = Store(request.out)
    with store.lock() as held, contextlib.closing(_executor(request)) as executor:
        planned = _plan(request, watcher, executor, hashing=True, adopting=True)
        store.plan(planned.jobs)
        watcher.planned(planned)
        evaluation = Evaluation(planned)
        found = dict(planned.done)
        if planned.todo:
            tracker = _tracker(planned) if request.tracking else None
            costs = costs_of(request)
            jobs = {job.key: job for unit in planned.todo for job in unit.jobs}
            ended: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
            try:
                schedule = Schedule(_equipped(planned.todo, request, store.identity()), planned.done.values(), costs, store.identity())
                for event in executor.run(schedule):
                    held.require()
                    if isinstance(event, Finished):
                        record = store.put(event.record, event.files)
                        found[record.key] = record
                        evaluation.computed += not of_environment(record.failure)
                        if tracker is not None:
                            tracker.record(record)
                    elif isinstance(event, EpochEnded) and tracker is not None:
                        tracker.epoch(jobs[event.key], event.epoch)
                    watcher.event(event)
                ended = "FAILED" if any(r.status == "failed" for r in found.values()) else "FINISHED"
            finally:
                costs.save()
                if tracker is not None:
                    tracker.close(ended)
                    evaluation.tracking_problem = tracker.problem
        elif request.tracking and behind(request.out):
            tracker = _tracker(planned)  # nothing to compute, but the server missed something
            tracker.close("FINISHED")
            evaluation.tracking_problem = tracker.problem
        evaluation.records = [found[job.key] for job in planned.jobs if job.key in found]
    return evaluation


def write_report(out: Path | Sequence[Path], title: str = "LOBE leaderboard") -> Reported:
    """Writes the site, tables and plots of everything stored in `out`. Computes nothing.

    Several folders are reported together, in the first of them: a result that lies in more than one counts once.

    Records that may not be believed are named on the page, and all others are shown.

    Raises:
        UsageError: there is no record to report on, or two folders hold other results of one job.
    """
    from benchmark.report import exchange, gallery, resampling
    from benchmark.report.site import write_site

    outs = list(dict.fromkeys([out] if isinstance(out, Path) else out))
    records, refused, where = _together(outs)
    if not records and not refused:
        named = " and ".join(map(str, outs))
        raise UsageError(f"{named} {'holds' if len(outs) == 1 else 'hold'} no results yet. `lobe run --out {outs[0]} …` makes some.")
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                overlays = gallery.draw(records, where, Path(folder))
                break
            except DamagedResult as error:  # found when its predictions are drawn: another run of its row takes its place
                refused.append(Refused(error.key, str(error)))
                records = [record for record in records if record.key != error.key]
        page = write_site(
            records,
            outs[0],
            title=title,
            overlays=overlays,
            planned=list({job.key: job for each in outs if each.is_dir() for job in Store(each).planned()}.values()),
            resampled=functools.partial(resampling.of_record, out=where),
            p_value_of=functools.partial(exchange.p_value, out=where),
            refused=refused,
        )
    return Reported(page, tuple(refused))


def reproduce(paper: str, out: Path | None = None) -> Reproduction:
    """A paper's tables with what `out` holds beside them; without `out`, or without records in it, as published.

    Raises:
        UnknownName: no such paper.
    """
    from benchmark.report import reproduce as reproducing
    from benchmark.report import resampling

    if out is None or not (out / "records").is_dir():
        return reproducing.reproduce(paper)
    records, damaged = _believable(out)
    found = reproducing.reproduce(paper, records, resampled=functools.partial(resampling.of_record, out=out))
    return replace(found, refused=(*found.refused, *((f"record {one.key}", one.sentence.rstrip(".")) for one in damaged)))


def _believable(out: Path) -> tuple[list[Record], list[Refused]]:
    """What a report may show of a folder, and what not; what a run's number rests on, its statistics, is held to its digest."""
    from benchmark.training.predictions import STATISTICS_FILE

    return Store(out).believable([STATISTICS_FILE]) if (out / "records").is_dir() else ([], [])


def _together(outs: Sequence[Path]) -> tuple[list[Record], list[Refused], dict[str, Path]]:
    """What several folders hold: records by key, what is not believed, and the folder of each record.

    Raises:
        UsageError: one job has other results in two of them.
    """
    found: dict[str, Record] = {}
    where: dict[str, Path] = {}
    refused: list[Refused] = []
    for out in outs:
        records, damaged = _believable(out)
        refused += damaged
        for record in records:
            known = found.get(record.key)
            if known is not None and (known.status, record.status) == ("ok", "ok") and known.metrics != record.metrics:
                labels = record.job.labels
                raise UsageError(
                    f"{where[record.key]} and {out} hold different results of one job ({record.key}: {labels.task}, {labels.backbone}, run "
                    f"{labels.run_number}). One of them is not what this job gives: report them apart, and compute it anew."
                )
            if known is None or (known.status == "failed" and record.status == "ok"):
                found[record.key], where[record.key] = record, out
    return sorted(found.values(), key=lambda record: record.key), [one for one in refused if one.key not in found], where


def _hashing(watcher: Watcher, dataset: str, done_bytes: int, total_bytes: int) -> None:
    watcher.event(Hashing(dataset, done_bytes, total_bytes))


def _jobs(
    cards: Sequence[TaskCard],
    backbones: Sequence[resolve.ResolvedBackbone],
    datasets: Mapping[tuple[str, str, bool], resolve.ResolvedDataset],
    request: Request,
    protocol: Protocol,
    settings: Settings,
    cache: Path,
) -> tuple[list[Job], dict[str, Inputs]]:
    """Jobs of every task whose dataset can be used, each once, and where their inputs lie, by key.

    Tasks that see the same images of a split are planned together.
    """
    jobs: dict[str, Job] = {}
    inputs: dict[str, Inputs] = {}
    about = About(registry.custom_cards(), {d.card.name: d.card.mask_source for d in datasets.values()})
    for seen in dict.fromkeys((request.split or card.split, card.words is None) for card in cards):
        used = {name: d for (name, *of), d in datasets.items() if tuple(of) == seen}
        refs = {name: d.ref for name, d in used.items()}
        usable = [card for card in cards if (request.split or card.split, card.words is None) == seen and card.dataset in used]
        for backbone in backbones:
            lie = {name: resolve.inputs(backbone, d, cache) for name, d in used.items()}
            for job in plan(usable, [backbone.named], refs, protocol, settings, registry.prompts(), about):
                jobs[job.key], inputs[job.key] = job, lie[job.experiment.dataset.name]
    return list(jobs.values()), inputs


def _what_will_fail(jobs: Sequence[Job], datasets: Iterable[resolve.ResolvedDataset]) -> list[str]:
    """A sentence for every task that has too few images to train or test on: each of its jobs will end with the same one."""
    sizes = {(d.card.name, d.ref.split): d.sizes for d in datasets}
    found: dict[str, None] = {}
    for job in jobs:
        e = job.experiment
        used = chosen(e, sizes[e.dataset.name, e.dataset.split])
        if (why := no_images(e, used) or too_few(e, used)) is not None:
            found[f"{job.labels.task} will fail: {why}"] = None
    return list(found)


@contextlib.contextmanager
def _collected(problems: list[Problem], what: str):
    try:
        yield
    except LobeError as error:
        problems.append(Problem(what, str(error)))


def _equipment(request: Request, executor: Executor | None) -> Equipment:
    if executor is not None:
        return executor.equipment(request.device)
    with contextlib.closing(_executor(request, shipped=False)) as asked:
        return asked.equipment(request.device)


def _equipped(todo: Sequence[WorkUnit], request: Request, store_id: str) -> list[WorkUnit]:
    """The units with what keeps their results through a loss, and the processes of each job."""
    return [
        replace(
            unit,
            store_id=store_id,
            workers=request.workers_per_job if unit.jobs[0].experiment.encoder is EncoderMode.FINETUNE else 1,
        )
        for unit in todo
    ]


def _options(request: Request) -> RunOptions:
    """How every job of a request runs.

    Raises:
        UsageError: the cache budget is no size.
    """
    options = RunOptions(checkpoints=None if request.checkpoints is None else request.checkpoints.resolve(), compiled=request.compiled)
    if request.cache_budget is None:
        return options
    return replace(options, feature_budget_bytes=resolve.size_bytes(request.cache_budget))


def _executor(request: Request, shipped: bool = True) -> Executor:
    """
    Args:
        shipped: the user's own backbones travel to the cluster; only what computes needs them.
    """
    backbones = resolve.files_of_authors(request.backbones) if shipped else ()
    return executor_of(request.executor, request.address, request.retries, backbones, request.verbose)


def _tracker(planned: Planned):
    from benchmark.tracking.tracker import Tracker

    request = planned.request
    title = f"{request.suite or 'tasks'} · {', '.join(request.backbones)}"
    parameters = {
        "backbones": ", ".join(request.backbones),
        "suite": str(request.suite),
        "tasks": ", ".join(dict.fromkeys(job.labels.task for job in planned.jobs)),
        "protocol": planned.protocol.name,
        "runs": str(request.runs),
        "limit": str(request.limit),
        "profile": request.profile,
        "jobs": str(len(planned.jobs)),
    }
    return Tracker(request.out, title, parameters)
