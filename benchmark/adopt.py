"""Results of an earlier release, taken over under their new keys.

Until a dataset's digest saw the content of images it saw their names and sizes, so every key changed when it learned to. What decided a
stored result did not: label files, names and sizes stand in its old key, weights too, and its record holds digests of the image files it
read. Where all of that is today's, the result is today's, and is stored under the new key as well, numbers and files to the byte.
The old record stays as it is; listings then leave it out (`Shelf.believable`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cards import BackboneRef, Job, Record
from benchmark.contents import THREADS, Progress
from benchmark.errors import LobeError
from benchmark.files import read_bytes
from benchmark.integrity import file_of
from benchmark.resolve import ResolvedBackbone, ResolvedDataset
from benchmark.shelf import Shelf
from benchmark.store import Store

if TYPE_CHECKING:
    from benchmark.readers.base import Sample

CHUNK = 64  # samples between two signs of life


@dataclass(frozen=True)
class Candidate:
    """A planned job, and the key under which an earlier release stored it."""

    job: Job
    dataset: ResolvedDataset
    earlier_key: str


def candidates(
    jobs: Iterable[Job], shelf: Shelf, backbones: Sequence[ResolvedBackbone], datasets: Iterable[ResolvedDataset]
) -> list[Candidate]:
    """Jobs without a record whose record of an earlier release lies on the shelf. Reads no image and no record."""
    if not shelf:
        return []
    # Where statistics of a folder or of a library's weights are in the reference, no earlier key says which were used.
    earlier = {_unseeded(b.named.self_normalised): b.named.self_normalised for b in backbones}
    earlier |= {_unseeded(b.named.ref): b.earlier or b.named.ref for b in backbones}
    by_ref = {(d.card.name, d.ref.split, d.ref.digest): d for d in datasets}
    found = []
    for job in jobs:
        if job.key in shelf:
            continue
        data, backbone = job.experiment.dataset, job.experiment.backbone
        dataset = by_ref[data.name, data.split, data.digest]
        changes = {
            "dataset": data.model_copy(update={"digest": dataset.outline}),
            "backbone": earlier[_unseeded(backbone)].model_copy(update={"init_seed": backbone.init_seed}),
        }
        key = job.model_copy(update={"experiment": job.experiment.model_copy(update=changes)}).key
        if key in shelf:
            found.append(Candidate(job, dataset, key))
    return found


def adopt(found: Sequence[Candidate], store: Store, progress: Progress | None = None) -> list[Record]:
    """Stores under its new key every candidate that was computed on the image files as they are today; returns the new records.

    Args:
        progress: told how many (bytes read, bytes to read) of the image files.

    Raises:
        StoreError: a record is damaged, or cannot be stored.
    """
    records = {c.earlier_key: record for c in found if (record := store.get(c.earlier_key)) is not None and record.status == "ok"}
    left = [c for c in found if c.earlier_key in records]
    today = _Today()
    for candidate in left:
        today.choose(candidate)
    today.read(progress)
    return [_taken_over(c, records[c.earlier_key], store) for c in left if today.agrees(c, records[c.earlier_key])]


@dataclass
class _Today:
    """The images that jobs use, as they are now: chosen once for jobs that use the same, and read once."""

    chosen: dict[tuple, Mapping[str, Sequence[Sample]] | None] = field(default_factory=dict)
    digests: dict[tuple[Path, ...], str] = field(default_factory=dict)

    def choose(self, candidate: Candidate) -> None:
        from benchmark.readers.base import SPLITS, open_reader
        from benchmark.readers.kit.identity import UNTRAINED
        from benchmark.training.data import choose

        experiment, dataset, which = candidate.job.experiment, candidate.dataset, _which(candidate.job)
        if which in self.chosen:
            return
        try:
            reader = open_reader(dataset.card, dataset.root, shapes=experiment.switches.object_cxr_shapes)
            self.chosen[which] = choose(experiment, reader, dataset.lists, SPLITS if experiment.words is None else UNTRAINED)
        except LobeError:
            self.chosen[which] = None  # the job itself will say it

    def read(self, progress: Progress | None) -> None:
        from benchmark.imaging.rows import source_digest

        chosen = (samples for splits in self.chosen.values() if splits for samples in splits.values())
        wanted = list(dict.fromkeys(sample.files for samples in chosen for sample in samples))
        sizes = [sum(path.stat().st_size for path in files) for files in wanted]
        done = 0
        with ThreadPoolExecutor(THREADS, thread_name_prefix="adopt") as pool:
            for start in range(0, len(wanted), CHUNK):
                part = slice(start, start + CHUNK)
                self.digests.update(zip(wanted[part], pool.map(source_digest, wanted[part]), strict=True))
                done += sum(sizes[part])
                if progress is not None:
                    progress(done, sum(sizes))

    def agrees(self, candidate: Candidate, record: Record) -> bool:
        """Whether the record was computed on these ids and these bytes; one that does not say is not taken over."""
        from benchmark.readers.base import ids_digest

        splits = self.chosen[_which(candidate.job)]
        if splits is None:
            return False
        now = {name: ids_digest([s.id for s in samples], ordered=True) for name, samples in splits.items()}
        now |= {f"{name} files": ids_digest([self.digests[s.files] for s in samples], ordered=True) for name, samples in splits.items()}
        return all(record.sample_digests.get(name) == digest for name, digest in now.items())


def _taken_over(candidate: Candidate, record: Record, store: Store) -> Record:
    """The record under its new key, with the same files; the old ones then share their bytes where the file system can."""
    found = {name: file_of(record, name, store.out) for name in (Path(path).name for path in record.predictions)}
    files = {name: path for name, path in found.items() if path is not None}
    changes = {"key": candidate.job.key, "job": candidate.job, "predictions": (), "adopted_from": record.key}
    new = store.put(record.model_copy(update=changes), {name: read_bytes(path) for name, path in files.items()})
    for name, path in files.items():
        _share(store.predictions_folder / new.key / name, path)
    return new


def _share(new: Path, old: Path) -> None:
    linked = old.with_name(f".{old.name}.{os.getpid()}.tmp")
    try:
        os.link(new, linked)
        os.replace(linked, old)
    except OSError:
        linked.unlink(missing_ok=True)  # two copies then


def _which(job: Job) -> tuple:
    """What decides the images of a job."""
    e = job.experiment
    rule = (e.dataset.name, e.dataset.digest, e.dataset.split, e.dataset.split_rule.canonical, e.switches.object_cxr_shapes)
    return (*rule, e.fraction, e.recipe.validation_subset, e.limit, e.words is None)


def _unseeded(ref: BackboneRef) -> str:
    return ref.model_copy(update={"init_seed": None}).canonical
