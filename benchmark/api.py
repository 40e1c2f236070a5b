"""The verbs, as a notebook calls them: `evaluate`, `plan_jobs`, `report`. The command line adds only words and colours."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmark import planned as planned_jobs
from benchmark import registry, resolve
from benchmark.cards import Record
from benchmark.errors import DamagedResult, UsageError
from benchmark.events import EpochEnded, Finished
from benchmark.execute.costs import Costs
from benchmark.execute.executors import Executor
from benchmark.execute.schedule import Schedule
from benchmark.faults import of_environment
from benchmark.plan import no_garbage
from benchmark.processes import Show, unseen
from benchmark.rate_search import is_out
from benchmark.request import Planned, Request, Silent, Watcher, executor_for, plan_request
from benchmark.shelf import Refused, Shelf
from benchmark.store import Store
from benchmark.submission import history
from benchmark.submission import shown as submitted
from benchmark.submission.trust import PUBLIC, Trust
from benchmark.tracking.spool import behind

if TYPE_CHECKING:
    from benchmark.execute.arithmetic import Hours
    from benchmark.execute.forecast import Forecast
    from benchmark.report.reproduce import Reproduction


@dataclass
class Evaluation:
    """What came of a request.

    Attributes:
        computed: jobs whose result was stored now.
        unstored: records of jobs that a fault of the environment stopped, by key: they have a record here and none in the store.
    """

    planned: Planned
    computed: int = 0
    tracking_problem: str | None = None
    unstored: dict[str, Record] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """The records of its jobs, whole, in plan order, failed ones included: read from the output folder whenever asked for."""
        return [self._shelf.whole(record.key) if record.key not in self.unstored else record for record in self.results]

    @property
    def results(self) -> Iterator[Record]:
        """As `records`, one by one and without their curves."""
        for key in self.planned.jobs.keys:
            record = self.unstored.get(key) or self._shelf.get(key)
            if record is not None:
                yield record
        self._shelf.save()

    @cached_property
    def failures(self) -> list[Record]:
        stored = (key for key in self.planned.jobs.keys if (facts := self._shelf.facts(key)) is not None and facts.status == "failed")
        failed = dict.fromkeys((*stored, *self.unstored))
        found = (self.unstored.get(key) or self._shelf.get(key) for key in self.planned.jobs.keys if key in failed)
        return [record for record in found if record is not None and not is_out(record)]

    @property
    def not_computed(self) -> list[Record]:
        """Failures that are the environment's: the same command computes these jobs again."""
        return [r for r in self.failures if of_environment(r.failure)]

    @cached_property
    def _shelf(self) -> Shelf:
        """What the output folder holds when the evaluation is over: listed anew where something was stored."""
        return Shelf(self.planned.request.out) if self.computed else self.planned.done.shelf


@dataclass(frozen=True)
class WrittenReport:
    """The page of a report, and the stored records that it does not believe.

    Attributes:
        below: how many submitted results are not shown for their level of trust.
    """

    page: Path
    refused: tuple[Refused, ...]
    below: int = 0


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
    return plan_request(request, watcher or Silent(), executor, hashing=hashing, adopting=False)


def forecast(planned: Planned) -> Forecast:
    """What the jobs still to compute will take where they are planned to run, from measured costs where known."""
    from benchmark.execute import forecast as forecasting

    return forecasting.forecast(planned.todo, costs_of(planned.request), planned.equipment)


def by_arithmetic(planned: Planned) -> Hours:
    """Hours of one large GPU for the jobs still to compute, by arithmetic alone."""
    from benchmark.execute import arithmetic

    return arithmetic.hours(planned.todo)


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
    with store.lock() as held, contextlib.closing(executor_for(request)) as executor:
        planned = plan_request(request, watcher, executor, hashing=True, adopting=True)
        store.plan(planned.jobs)
        watcher.planned(planned)
        evaluation = Evaluation(planned)
        if planned.todo:
            tracker = _tracker(planned) if request.tracking else None
            costs = costs_of(request)
            jobs = {job.key: job for unit in planned.todo for job in unit.jobs}
            ended: Literal["FINISHED", "FAILED", "KILLED"] = "KILLED"
            try:
                todo = [replace(unit, store_id=store.identity()) for unit in planned.todo]
                awaited = dict.fromkeys(key for job in jobs.values() for key in job.depends_on)
                schedule = Schedule(todo, [planned.done[key] for key in awaited if key in planned.done], costs, store.identity())
                any_failed = any(planned.done.status(key) == "failed" for key in planned.done)
                for event in executor.run(schedule):
                    held.require()
                    if isinstance(event, Finished):
                        record = store.put(event.record, event.files)
                        any_failed |= record.status == "failed" and not is_out(record)
                        if of_environment(record.failure):
                            evaluation.unstored[record.key] = record
                        else:
                            evaluation.computed += 1
                            evaluation.unstored.pop(record.key, None)
                        if tracker is not None:
                            tracker.record(record)
                    elif isinstance(event, EpochEnded) and tracker is not None:
                        tracker.epoch(jobs[event.key], event.epoch)
                    watcher.event(event)
                ended = "FAILED" if any_failed else "FINISHED"
            finally:
                costs.save()
                if tracker is not None:
                    tracker.close(ended)
                    evaluation.tracking_problem = tracker.problem
        elif request.tracking and behind(request.out):
            tracker = _tracker(planned)  # nothing to compute, but the server missed something
            tracker.close("FINISHED")
            evaluation.tracking_problem = tracker.problem
    return evaluation


def write_report(
    out: Path | Sequence[Path],
    title: str = "LOBE leaderboard",
    *,
    submissions: Path | None = None,
    least: Trust = PUBLIC,
    groups: bool = False,
    recipes: Mapping[str, Sequence[str]] | None = None,
    show: Show = unseen,
) -> WrittenReport:
    """Writes the site, tables and plots of everything stored in `out`, beside accepted submissions. Computes nothing.

    Several folders are reported together, in the first of them: a result that lies in more than one counts once.

    Records that may not be believed are named on the page, and all others are shown.

    Args:
        submissions: folder of accepted submissions; None takes LOBE's own.
        least: level of trust from which a submission is shown.
        groups: scores on parts of the test images are computed too, from every file of statistics.
        recipes: name -> labels of checkpoints that were pretrained alike but for their seed.
        show: how far it is where many results were never reported on.

    Raises:
        UsageError: there is no record to report on, two folders hold other results of one job, or a recipe has fewer than three
            checkpoints or one without a row.
    """
    from benchmark.report import gallery, resampling, subgroups, unchanged
    from benchmark.report.site import REPORT, write_site
    from benchmark.stored_results import beside, nothing_in, together

    outs = list(dict.fromkeys([out] if isinstance(out, Path) else out))
    shelves = [Shelf(each) for each in outs]
    folder_of_submissions = submissions or submitted.default_folder()
    sent, left_out = submitted.shown(folder_of_submissions, resolve.cache_folder())
    gone = history.gone(history.read(folder_of_submissions))
    asked = json.dumps([groups, {name: list(labels) for name, labels in (recipes or {}).items()}])
    told = [*(one.entry.canonical for one in sent), *(one.canonical for one in gone), *(one.sentence for one in left_out)]
    of_whom = "\n".join([title, least, asked, *told])
    report, made_of = outs[0] / REPORT, unchanged.made_of(of_whom, [*shelves, *(one.shelf for one in sent)])
    if unchanged.is_written(report, made_of, shelves[0].kept_page(REPORT)):
        return WrittenReport(report / "index.html", ())
    with no_garbage():
        records, refused, of = together(shelves, show)
        trust, below = beside(records, refused, of, sent, least)
        refused += left_out
        where = {key: shelf.out for key, shelf in of.items()}
        if not records and not refused:
            raise UsageError(nothing_in(outs))
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
                planned=list({job.key: job for each in outs for job in planned_jobs.read(each)}.values()),
                resampled=resampling.of_records(records, where, show),
                refused=refused,
                curve_of=lambda record: of[record.key].curve(record.key),
                trust=trust,
                panels=list(registry.panels().values()),
                gone=gone,
                groups_of=functools.partial(subgroups.subgroups, where=where) if groups else None,
                recipes=recipes,
            )
    if made_of is not None and not refused:
        shelves[0].keep_page(REPORT, unchanged.written(report, made_of))
    return WrittenReport(page, tuple(refused), below)


def draw_local_pictures(out: Path | Sequence[Path]) -> Path:
    """Draws what a report may not show, of datasets whose agreement lets no image be passed on but forbids no look at one's own copy.

    Returns:
        The page of a folder of its own in the first output folder, for nobody else's eyes. Datasets that forbid more stay out of it.
    """
    from benchmark.report import gallery, local_pictures
    from benchmark.stored_results import together

    outs = list(dict.fromkeys([out] if isinstance(out, Path) else out))
    records, _, of = together([Shelf(each) for each in outs])
    withheld = [record for record in records if gallery.refusal(record) and not gallery.refusal_here(record)]
    with tempfile.TemporaryDirectory() as folder:
        where = {key: shelf.out for key, shelf in of.items()}
        return local_pictures.write(outs[0], gallery.draw(withheld, where, Path(folder), gallery.refusal_here))


def reproduce(paper: str, out: Path | None = None, table: str | None = None, method: str | None = None) -> Reproduction:
    """A paper's tables with what `out` holds beside them; without `out`, or without records in it, as published.

    Args:
        table, method: only tables whose title, only lines whose method holds that text.

    Raises:
        UnknownName: no such paper.
        UsageError: no such table or method.
        StoreError: what was planned in `out` cannot be read.
    """
    from benchmark.report import reproduce as reproducing
    from benchmark.report import resampling
    from benchmark.stored_results import believable

    if out is None or not (out / "records").is_dir():
        return reproducing.reproduce(paper, table=table, method=method)
    records, damaged = believable(Shelf(out))
    found = reproducing.reproduce(
        paper,
        records,
        planned=planned_jobs.read(out),
        not_believed=[one.key for one in damaged],
        resampled=resampling.of_records(records, out),
        table=table,
        method=method,
    )
    not_believed = reproducing.refusals((f"record {one.key}", one.sentence.rstrip(".")) for one in damaged)
    return replace(found, refused=(*found.refused, *not_believed))


def _tracker(planned: Planned):
    from benchmark.tracking.tracker import Tracker

    request = planned.request
    title = f"{request.suite or 'tasks'} · {', '.join(request.backbones)}"
    parameters = {
        "backbones": ", ".join(request.backbones),
        "suite": str(request.suite),
        "tasks": ", ".join(planned.tasks),
        "protocol": planned.protocol.name,
        "runs": str(request.runs),
        "limit": str(request.limit),
        "profile": request.profile,
        "jobs": str(len(planned.jobs)),
    }
    return Tracker(request.out, title, parameters)
