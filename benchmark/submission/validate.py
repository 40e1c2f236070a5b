"""`lobe validate`: an archive of somebody unknown, looked at without running anything of it.

Everything it says is held to what can be computed: names and digests to its bytes, metrics to its statistics, claims to LOBE's cards, and
with the images at hand metrics to its predictions. Predictions that no network made are noticed by nobody but who trains again.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from benchmark import json_files, kinds, own_code, private, registry
from benchmark.cards import BackboneCard, DatasetCard, Record, Role, SuiteCard, TaskCard
from benchmark.cards.base import Card
from benchmark.errors import DataError, LobeError, UsageError
from benchmark.files import read_bytes
from benchmark.integrity import file_of
from benchmark.kinds.base import Kind
from benchmark.kinds.kit.stored import STATISTICS_FILES, ByImage
from benchmark.rate_search import is_out
from benchmark.shelf import Shelf
from benchmark.submission import archive, claims, texts
from benchmark.submission.archive import Archive
from benchmark.submission.completeness import equal_runs, incomplete_tasks, missing_from, odd_runs
from benchmark.submission.manifest import CARD, RECORD, RESULT, Manifest
from benchmark.submission.pseudonyms import is_pseudonymised
from benchmark.submission.same_statistics import differing_metrics, fault_of_images
from benchmark.submission.trust import Trust, lowest
from benchmark.submission.truth import digest_of_truth, tested_on
from benchmark.submission.verified import STATISTICS, statistics_of

Progress = Callable[[int, int], None]

RERUN_MARGIN = 0.005  # of the reported metric, a fraction: what another machine may change in a run of the same seed
_CARDS: dict[str, type[Card]] = {"backbones": BackboneCard, "datasets": DatasetCard, "suites": SuiteCard, "tasks": TaskCard}


@dataclass(frozen=True)
class Validated:
    """What was found.

    Attributes:
        faults: any of them refuses the archive.
        missing: what a complete submission holds as well.
        incomplete: tasks of which runs or searches are missing; their rows have no rank.
        notes: what a reader should know, and what was not looked at.
        levels: task -> the lowest level of trust of its runs.
        truths: what was tested on -> digest of its ground truth (`submission.truth`).
    """

    id: str
    sha256: str
    manifest: Manifest
    faults: tuple[str, ...]
    missing: tuple[str, ...]
    incomplete: tuple[str, ...]
    notes: tuple[str, ...]
    levels: Mapping[str, Trust]
    truths: Mapping[str, str]
    n_records: int
    n_recomputed: int
    n_rescored: int
    n_rerun: int

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def trust(self) -> Trust:
        return lowest(self.levels.values()) if self.levels else Trust.REPORTED

    @property
    def checked(self) -> str:
        """What was done, in words."""
        done = {"recomputed": self.n_recomputed, "re-scored": self.n_rescored, "re-run": self.n_rerun}
        return ", ".join(f"{n:,} of {self.n_records:,} {what}" for what, n in done.items())


def validate(
    file: Path,
    *,
    data: Sequence[str] = (),
    cache: Path | None = None,
    rerun: Path | None = None,
    allow_phantom: bool = False,
    progress: Progress | None = None,
) -> Validated:
    """Looks at an archive.

    Args:
        data: folders of the datasets, as for a run: predictions are then scored again. None re-scores nothing.
        rerun: an output folder in which the same jobs were trained again.
        allow_phantom: takes generated data for what it is, a rehearsal.
        progress: told how many (records looked at, records).

    Raises:
        BadArchive: it is not opened.
        UsageError: it cannot be read.
    """
    with archive.opened(file) as given, tempfile.TemporaryDirectory(prefix="lobe-validate-") as work:
        folder = private.folder(Path(work).resolve() / "out")
        given.unpack(folder, private.opener)
        return _Inspection(given, folder, allow_phantom).run(data, cache, rerun, progress)


class _Inspection:
    """One look at an unpacked archive; gathers what it finds."""

    def __init__(self, given: Archive, folder: Path, allow_phantom: bool):
        self.given, self.folder, self.allow_phantom = given, folder, allow_phantom
        self.faults: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        self.levels: dict[str, Trust] = {}
        self.truths: dict[str, str] = {}

    def run(self, data: Sequence[str], cache: Path | None, rerun: Path | None, progress: Progress | None) -> Validated:
        manifest = self.given.manifest
        backbones = self._backbones()
        believed, refused = Shelf(self.folder).believable(STATISTICS_FILES, STATISTICS)
        for one in refused:
            self._fault(one.sentence)
        self._look_at_manifest(manifest, believed)
        for n, record in enumerate(believed):
            if progress is not None:
                progress(n, len(believed))
            self.levels[record.key] = self._level_of(record, backbones)
        finals = [record for record in believed if record.job.experiment.role is Role.FINAL]
        for sentence in (*claims.contradictions(finals), *odd_runs(believed)):
            self._fault(sentence)
        for sentence in equal_runs(finals):
            self._note(sentence)
        n_rescored = self._rescore(finals, data, cache) if data else 0
        n_rerun = self._compare(finals, rerun) if rerun is not None else 0
        if not data:
            self._note("Nothing was scored again: that needs the images (--data).")
        if progress is not None:
            progress(len(believed), len(believed))
        by_task: dict[str, list[Trust]] = defaultdict(list)
        for record in finals:
            by_task[record.job.labels.task].append(self.levels[record.key])
        return Validated(
            id=self.given.id,
            sha256=self.given.sha256,
            manifest=manifest,
            faults=tuple(self.faults),
            missing=tuple(missing_from(believed, manifest.suite)),
            incomplete=tuple(incomplete_tasks(believed)),
            notes=tuple(self.notes),
            levels={task: lowest(levels) for task, levels in sorted(by_task.items())},
            truths=self.truths,
            n_records=len(finals),
            n_recomputed=sum(self.levels[record.key].at_least(Trust.RECOMPUTED) for record in finals),
            n_rescored=n_rescored,
            n_rerun=n_rerun,
        )

    def _fault(self, sentence: str) -> None:
        self.faults[self._told(sentence)] = None

    def _note(self, sentence: str) -> None:
        self.notes[self._told(sentence)] = None

    def _told(self, sentence: str) -> str:
        """Without the folder that it was unpacked to, which is gone when the sentence is read."""
        return sentence.replace(f"{self.folder}/", "").replace(" Move it away to have the job computed again.", "")

    def _backbones(self) -> dict[str, BackboneCard]:
        """Cards of backbones that the archive holds, by what tables call them; every card is looked at."""
        found: dict[str, BackboneCard] = {}
        own: Mapping[str, Mapping[str, Card]] = {
            "backbones": registry.backbones(), "datasets": registry.datasets(), "suites": registry.suites(), "tasks": registry.tasks(),
        }  # fmt: skip
        for name in self.given.names:
            if (match := CARD.fullmatch(name)) is None:
                continue
            section, key = match.groups()
            try:
                card = _CARDS[section].model_validate(json_files.parse(read_bytes(self.folder / name)))
            except (ValidationError, ValueError) as error:
                self._fault(f"{name} is no card: {str(error).splitlines()[0]}.")
                continue
            if own[section].get(key) != card:
                known = "another one" if key in own[section] else "none"
                self._note(f"{name}: this LOBE has {known} of that name; LOBE's own cards count.")
            if isinstance(card, BackboneCard):
                found[card.title or card.name] = card
        return found

    def _look_at_manifest(self, manifest: Manifest, records: Sequence[Record]) -> None:
        if manifest.phantom and not self.allow_phantom:
            self._fault("It is of generated data: a rehearsal, which no leaderboard takes. --allow-phantom looks at it as one.")
        for text in (manifest.contact, manifest.suite or "", *manifest.backbones, *manifest.tasks):
            if why := texts.fault_of_name(text):
                self._fault(f"Its manifest holds the text {text[: texts.LONGEST]!a}, which {why}.")
        if manifest.suite is not None and manifest.suite not in registry.suites():
            self._fault(f"LOBE has no suite {manifest.suite!a}.")
        told, there = (manifest.backbones, manifest.tasks), (set[str](), set[str]())
        for record in records:
            there[0].add(record.job.labels.backbone)
            there[1].add(record.job.labels.task)
        if not self.faults and any(set(said) != found for said, found in zip(told, there, strict=True)):
            self._fault("Its manifest names other backbones or tasks than its records.")
        if not any(RECORD.fullmatch(name) for name in self.given.names):
            self._fault("It holds no record.")
        named = {name for record in records for name in record.predictions}
        keys = {record.key for record in records}
        for name in self.given.names:
            if (match := RESULT.fullmatch(name)) is not None and match[1] in keys and name not in named:
                self._fault(f"{name} is a file that its record does not name.")
            if match is not None and not (self.folder / "records" / f"{match[1]}.json").is_file():
                self._fault(f"{name} is of no record that the archive holds.")
        if manifest.code != own_code.digest():
            self._note(f"It was packed by other code than this (LOBE {manifest.lobe!a}, {manifest.code[:12]}).")

    def _level_of(self, record: Record, backbones: Mapping[str, BackboneCard]) -> Trust:
        """Looks at one record. The level is that of what was stored with it."""
        called = f"Record {record.key} ({record.job.labels.task}, {record.job.labels.backbone})"
        if (odd := texts.fault_in(record)) is not None:
            self._fault(f"Record {record.key} holds the text {odd[0][: texts.LONGEST]!a}, which {odd[1]}.")
            return Trust.REPORTED
        if record.phantom != self.given.manifest.phantom:
            self._fault(f"{called}: {'generated' if record.phantom else 'real'} data, and its manifest says otherwise.")
        if record.scale != "full" or (record.status != "ok" and not is_out(record)):
            self._fault(f"{called}: {'a limited run' if record.scale != 'full' else 'it failed'}; neither is submitted.")
        if why := claims.fault_in(record, backbones):
            self._fault(f"{called}: {why}.")
        try:
            found = statistics_of(record, self.folder)
            for name in record.predictions:
                file_of(record, PurePosixPath(name).name, self.folder)
        except LobeError as error:
            self._fault(str(error))
            return Trust.REPORTED
        if private.is_restricted(record.redistribution):
            files = {PurePosixPath(name).name for name in record.predictions}
            if (found is not None and not is_pseudonymised(found)) or files - set(STATISTICS_FILES):
                self._fault(f"{called}: it holds names or predictions of data that may not be passed on. Pack it with `lobe submit`.")
        if found is None and record.job.experiment.role is Role.SELECTION:
            return Trust.REPORTED  # by validation alone, of which nothing is stored but its metrics
        if found is None:
            self._note(f"{called}: no statistics, so nothing of it could be computed again.")
            return Trust.REPORTED
        if (truth := digest_of_truth(found)) is not None and self.truths.setdefault(tested_on(record, found), truth) != truth:
            self._fault(f"{called}: its ground truth is not that of other records on the same images.")
        if not claims.is_of_today(record):
            labels, version = record.job.labels, record.job.experiment.task_version
            self._note(f"{labels.task}: of version {version}, whose card this LOBE does not have: its recipe is as its author says.")
            return Trust.REPORTED
        if not claims.is_known_release(record):
            name = record.job.experiment.dataset.name
            self._note(f"{name}: no card knows the digest of this split's test images, so the release is as its author says.")
            return Trust.REPORTED
        return Trust.RECOMPUTED

    def _rescore(self, records: Sequence[Record], data: Sequence[str], cache: Path | None) -> int:
        """Scores predictions again, and raises the level of runs whose numbers follow from them."""
        from benchmark.submission.score import Scorer, scorer  # loads torch

        scorers: dict[tuple[str, str, str], Scorer] = {}
        n_rescored = 0
        for record in records:
            job, kind = record.job, kinds.known(record.job.experiment)
            name = next((PurePosixPath(one).name for one in record.predictions if PurePosixPath(one).name not in STATISTICS_FILES), None)
            if name is None or kind is None or type(kind).rescore is Kind.rescore:
                self._note(f"{job.labels.task}: no predictions that could be scored again.")
                continue
            path = self.folder / "predictions" / record.key / name
            asked = (job.labels.task, job.labels.protocol, job.experiment.dataset.split)
            try:
                if asked not in scorers:
                    scorers[asked] = scorer(asked[0], data, cache, asked[1], split=asked[2])
                found = scorers[asked].score(path)
            except DataError as error:
                self._note(f"{job.labels.task} was not scored again: {error}")
                continue
            except LobeError as error:
                self._fault(f"Record {record.key} ({job.labels.task}): its predictions cannot be scored: {error}")
                continue
            if found.digest != job.experiment.dataset.digest:
                self._note(f"{job.labels.task} was not compared: the images here are not those it was computed on.")
                continue
            if found.report not in found.metrics:
                self._note(f"{job.labels.task}: its {found.report} does not follow from its predictions.")
                continue
            stored = self._statistics_of(record)
            if odd := differing_metrics(record.metrics, found.metrics, stored):
                said, again = record.metrics[odd[0]], found.metrics[odd[0]]
                self._fault(
                    f"Record {record.key} ({job.labels.task}, {job.labels.backbone}): its {odd[0]} is {said:.6g}, "
                    f"and its predictions score {again:.6g}."
                )
                continue
            if stored is not None and (why := fault_of_images(stored, found.images)):
                self._fault(f"Record {record.key} ({job.labels.task}, {job.labels.backbone}): {why}.")
                continue
            n_rescored += 1
            self.levels[record.key] = Trust.RESCORED
        return n_rescored

    def _statistics_of(self, record: Record) -> ByImage | None:
        """None where it has none, or they were refused."""
        try:
            return statistics_of(record, self.folder)
        except LobeError:
            return None

    def _compare(self, records: Sequence[Record], rerun: Path) -> int:
        """Runs that were trained again with the same result."""
        shelf, n_rerun = Shelf(rerun), 0
        if not len(shelf):
            raise UsageError(f"{rerun} holds no results. Give the --out in which the jobs were run again.")
        for record in records:
            again, metric = shelf.get(record.key), record.job.experiment.report
            if again is None or again.status != "ok" or metric not in again.metrics or metric not in record.metrics:
                continue
            if abs(again.metrics[metric] - record.metrics[metric]) > RERUN_MARGIN:
                self._note(
                    f"{record.job.labels.task}, {record.job.labels.backbone}, run {record.job.labels.run_number}: trained again it gives "
                    f"{metric} {again.metrics[metric]:.4f}, not {record.metrics[metric]:.4f}."
                )
                continue
            if again.parameters != record.parameters:
                self._note(f"{record.job.labels.task}, {record.job.labels.backbone}: trained again it counts other parameters.")
            n_rerun += 1
            self.levels[record.key] = Trust.RERUN
        return n_rerun
