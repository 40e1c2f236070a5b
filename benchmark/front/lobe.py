"""`Lobe`, the benchmark as one object: where data and results lie, and what may be done with them. Guide: docs/python.md."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd
from rich.console import Console

from benchmark import api, registry, resolve, stored_results, task_rules
from benchmark.cards import EncoderMode, Normalisation, Role
from benchmark.errors import UsageError
from benchmark.front.backbone_names import BackboneLike, name_of
from benchmark.front.results import Results
from benchmark.request import Request, Silent, Watcher
from benchmark.shelf import Shelf
from benchmark.stored_results import StoredResults

if TYPE_CHECKING:
    import numpy as np

    from benchmark.encoders.base import Backbone
    from benchmark.execute.work import WorkUnit
    from benchmark.front.features import Features, Level, Split
    from benchmark.front.pictures import Images
    from benchmark.front.probes import Probe
    from benchmark.request import Planned

PathLike = str | Path


class Lobe:
    """The benchmark with its settings, which every method shares.

    Args:
        out: output folder; an evaluation goes on where an earlier one stopped.
        data: a root folder with one folder a dataset, or dataset -> folder. None takes $LOBE_DATA.
        cache: folder of caches. None takes $LOBE_CACHE, or the user's cache folder.
        executor: "inline" runs in this process, "ray" on all devices of this machine or on the cluster at `address`.
        device: of every job, part of its key; "auto" takes a GPU where there is one.
        protocol: None takes the suite's, or the first that all tasks offer.
        runs: final runs a task; None takes each card's number (5).
        limit: a trial with at most so many images a split; never ranked.
        profile: "smoke" takes a small budget of steps; never ranked.
        threads: CPU threads of a job, part of its key.
        include: folders of your own cards, as of `lobe --include`; they hold for the whole process.
        tracking: also into MLflow.
        progress: a bar while it runs.

    Example:
        >>> lobe = Lobe("lobe-out", data="/data")
        >>> results = lobe.evaluate("torchvision:resnet50@IMAGENET1K_V2", "rsna-linear-frozen-100")
        >>> results.cells()
    """

    def __init__(
        self,
        out: PathLike = "lobe-out",
        *,
        data: PathLike | Mapping[str, PathLike] | None = None,
        cache: PathLike | None = None,
        executor: Literal["inline", "ray"] = "inline",
        address: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        protocol: str | None = None,
        runs: int | None = None,
        limit: int | None = None,
        profile: Literal["full", "smoke"] = "full",
        threads: int = 1,
        include: PathLike | Sequence[PathLike] = (),
        tracking: bool = False,
        progress: bool = False,
    ):
        self.out = Path(out)
        self._data = _data_words(data)
        self._cache = None if cache is None else Path(cache)
        self._settings: dict[str, Any] = {
            "executor": executor,
            "address": address,
            "device": device,
            "protocol": protocol,
            "runs": runs,
            "limit": limit,
            "profile": profile,
            "threads": threads,
        }
        self._tracking, self._progress = tracking, progress
        for folder in [include] if isinstance(include, (str, Path)) else include:
            registry.include(Path(folder))
        if include:
            task_rules.require_included()

    def __repr__(self) -> str:
        said = {name: value for name, value in self._settings.items() if value is not None}
        return f"Lobe({str(self.out)!r}, data={list(self._data)!r}, {', '.join(f'{k}={v!r}' for k, v in said.items())})"

    # ---------------------------------------------------------------------------------------------------------- evaluation

    def evaluate(
        self,
        backbones: BackboneLike | Sequence[BackboneLike],
        tasks: str | Sequence[str] = (),
        *,
        suite: str | None = None,
        **settings: Any,
    ) -> Results:
        """Trains and tests every task on every backbone, as `lobe run` does. What is stored already is not computed again.

        Args:
            backbones: names as of `lobe run --backbone`, files with a function `build`, or functions at the top level of a file.
            tasks: ids of tasks (`lobe.tasks()`).
            suite: all tasks of a suite.
            settings: of this call, in place of the object's: those of `Lobe`, and `split`, `splits`, `retry_failed`, `workers_per_job`,
                `compiled`, `checkpoints`, `retries`, `cache_budget`, as of `benchmark.request.Request`.

        Returns:
            The results of what was asked for. What failed is in `failures()`; what could not be used is warned of and in `problems`.

        Raises:
            LobeError: nothing could start; the message says why and what to do.
        """
        request = self._request(backbones, tasks, suite, **settings)
        with self._watching(request) as watcher:
            done = api.evaluate(request, watcher)
        problems = [(problem.what, problem.sentence) for problem in done.planned.problems]
        for what, sentence in problems:
            warnings.warn(f"left out: {what}: {sentence}", stacklevel=2)
        if n_failed := len(done.failures):
            warnings.warn(f"{n_failed} jobs failed; results.failures() says why.", stacklevel=2)
        shelf, records = Shelf(request.out), tuple(done.results)
        of = {record.key: shelf for record in records if record.key in shelf}
        return Results(StoredResults(records, of, tuple(done.planned.jobs), ()), problems)

    def plan(
        self,
        backbones: BackboneLike | Sequence[BackboneLike],
        tasks: str | Sequence[str] = (),
        *,
        suite: str | None = None,
        **settings: Any,
    ) -> pd.DataFrame:
        """The jobs that `evaluate` would run, one a line, with `state` "ok", "failed" or "to compute". Decodes and computes nothing."""
        planned = api.plan_jobs(self._request(backbones, tasks, suite, **settings), hashing=True)
        for problem in planned.problems:
            warnings.warn(f"left out: {problem.what}: {problem.sentence}", stacklevel=2)
        lines = [
            {
                "task": job.labels.task,
                "split": job.experiment.dataset.split,
                "backbone": job.labels.backbone,
                "role": job.experiment.role.value,
                "run": job.labels.run_number,
                "state": planned.done.status(job.key) if job.key in planned.done else "to compute",
                "key": job.key,
            }
            for job in planned.jobs
        ]
        return pd.DataFrame(lines)

    def results(self, *more: PathLike) -> Results:
        """Everything stored in the output folder, and in others beside it: a result in more than one counts once.

        Raises:
            UsageError: there is none, or two folders hold other results of one job.
        """
        stored = stored_results.read([self.out, *map(Path, more)])
        for refused in stored.refused:
            warnings.warn(f"refused: {refused.sentence}", stacklevel=2)
        return Results(stored)

    def report(self, *more: PathLike, title: str = "LOBE leaderboard") -> Path:
        """Writes the report's pages into the output folder and returns the first of them."""
        return api.write_report([self.out, *map(Path, more)], title).page

    # ------------------------------------------------------------------------------------------------------------ listings

    def tasks(self, suite: str | None = None) -> pd.DataFrame:
        """Every task, or those of a suite: id, title, dataset, head, encoder, share of labels, metric, protocols."""
        names = registry.tasks() if suite is None else registry.suite(suite).tasks
        lines = [
            card.model_dump(mode="json", include={"id", "title", "dataset", "split", "head", "encoder", "fraction", "report", "protocols"})
            for card in map(registry.task, names)
        ]
        return pd.DataFrame(lines)

    def backbones(self) -> pd.DataFrame:
        """Every backbone that has a card: its name, title, family, status, and the file of weights that it asks for."""
        include = {"name", "title", "family", "model", "status", "weights"}
        return pd.DataFrame([card.model_dump(mode="json", include=include) for card in registry.backbones().values()])

    # -------------------------------------------------------------------------------------------------- features and probes

    def features(
        self,
        backbone: BackboneLike | Backbone,
        images: Images,
        *,
        level: Level = "pooled",
        frame_size: int = 224,
        normalisation: Normalisation | None = None,
        intensity: Literal["as-stored", "equalised"] = "as-stored",
    ) -> np.ndarray:
        """Features of a frozen backbone for images in memory; kept in the cache, except for a backbone in memory.

        Args:
            images: grey, (N, H, W) uint8, or a list of (H, W) of any sizes; 0 is black.
            level: "pooled", "deepest", or a stride in pixels.
            frame_size: side in pixels of the square that images are padded and resized to.
            normalisation: None takes the backbone's own mean and deviation, ImageNet's where it states none.
            intensity: "equalised" spreads the histogram first, as some datasets' cards ask for; then uint16 is taken too.

        Returns:
            float32, (N, D) of the embedding, (N, C, h, w) of a map.

        Raises:
            LobeError: the backbone cannot be built, has no such level, or something else than grey images was given.
        """
        from benchmark.front import features

        return features.of_images(
            backbone,
            images,
            level=level,
            frame_size=frame_size,
            normalisation=normalisation,
            intensity=intensity,
            device=self._device(),
            cache=self._cache,
        )

    def split_features(
        self, backbone: BackboneLike, task: str, split: Split = "test", *, level: Level = "pooled", **settings: Any
    ) -> Features:
        """Features of a task's training, validation or test images, with their labels where the task has some.

        They are what a frozen job of the task reads, under its protocol's normalisation, and are kept with those in the cache.

        Args:
            task: of a trained head on a frozen encoder; its share of labels decides the training images.
            settings: as of `evaluate`.

        Raises:
            LobeError: the dataset is not there, or the task has no frozen encoder.
        """
        from benchmark.front import features

        card = registry.task(task)
        if card.words is not None or card.encoder is not EncoderMode.FROZEN:
            raise UsageError(f"{task} trains no head on a frozen encoder: features are of tasks that do, see lobe.tasks().")
        with self._unit(backbone, task, **(settings | {"runs": 1})) as (unit, _):
            return features.of_split(unit, split, level)

    def probe(self, backbone: BackboneLike, task: str, *, run: int = 1, **settings: Any) -> Probe:
        """The trained model of a stored run, to be called on images: probabilities of labels, maps for masks, or boxes.

        Records hold no weights: the model is trained once more on the same images, compared with what the run stored of its validation,
        and kept in the cache.

        Args:
            run: from 1.
            settings: of the evaluation, where they were not the object's.

        Raises:
            UsageError: the run is not in the output folder, or failed.
            LobeError: as of the run itself; or the model trained again is another one.
        """
        from benchmark.front import probes

        with self._unit(backbone, task, **settings) as (unit, planned):
            keys = [job.key for job in planned.jobs if job.labels.run_number == run and job.experiment.role is Role.FINAL]
            shelf = Shelf(self.out)
            found = [record for key in keys if (record := shelf.get(key)) is not None]
            record = probes.require_one(found, f"{task} on {name_of(backbone)}, run {run}, in {self.out}, with these settings and data")
            return probes.probe_of(unit, record, resolve.cache_folder(self._cache))

    # -------------------------------------------------------------------------------------------------------------- inside

    def _request(
        self, backbones: BackboneLike | Sequence[BackboneLike], tasks: str | Sequence[str], suite: str | None, **settings: Any
    ) -> Request:
        own = {*self._settings, "split", "splits", "retry_failed", "workers_per_job", "compiled", "checkpoints", "retries", "cache_budget"}
        if unknown := sorted(set(settings) - own):
            raise UsageError(f"There is no setting {', '.join(unknown)}. There are: {', '.join(sorted(own))}.")
        several: list[BackboneLike] = [*backbones] if isinstance(backbones, (list, tuple)) else [cast("BackboneLike", backbones)]
        return Request(
            backbones=[name_of(each) for each in several],
            tasks=[tasks] if isinstance(tasks, str) else tuple(tasks),
            suite=suite,
            data=self._data,
            out=self.out,
            cache=self._cache,
            tracking=self._tracking,
            **(self._settings | settings),
        )

    @contextlib.contextmanager
    def _unit(self, backbone: BackboneLike, task: str, **settings: Any) -> Iterator[tuple[WorkUnit, Planned]]:
        """The unit that holds all jobs of a task on a backbone, planned as if nothing were stored: stored jobs are in no unit.

        Raises:
            UsageError: backbone or dataset cannot be used; the reason is in it.
        """
        with tempfile.TemporaryDirectory(prefix="lobe-") as empty:
            request = self._request(backbone, task, None, **(settings | {"executor": "inline"}))
            planned = api.plan_jobs(replace(request, out=Path(empty)))
            if planned.problems:
                raise UsageError(" ".join(problem.sentence for problem in planned.problems))
            finals = [unit for unit in planned.todo if any(job.experiment.role is Role.FINAL for job in unit.jobs)]
            (unit,) = finals[:1]
            jobs = tuple(job for one in finals for job in one.jobs)
            yield replace(unit, jobs=jobs), planned

    @contextlib.contextmanager
    def _watching(self, request: Request) -> Iterator[Watcher]:
        if not self._progress:
            yield Silent()
            return
        from benchmark.progress import Live

        with Live(Console(stderr=True), costs=api.costs_of(request)) as live:
            yield live

    def _device(self) -> Literal["cpu", "cuda"]:
        import torch

        asked = self._settings["device"]
        return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def _data_words(data: PathLike | Mapping[str, PathLike] | None) -> tuple[str, ...]:
    """As `--data` takes them."""
    if data is None:
        return ()
    if isinstance(data, Mapping):
        return tuple(f"{name}={Path(folder)}" for name, folder in data.items())
    return (str(data),)
