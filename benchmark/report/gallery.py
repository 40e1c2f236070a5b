"""Overlay pictures of stored predictions: the first run of each row, on the few images its job kept for the eye.

Reads only the output folder; what a picture shows, the task's kind says. Whether a dataset's agreement allows pictures is asked here, once,
before anything is drawn or copied: on pages that others look at (`refusal`), or at least beside the output folder (`refusal_here`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import kinds, private
from benchmark.cards import Record, Role
from benchmark.integrity import file_of
from benchmark.kinds.kit.stored import EXAMPLES_FILE, N_EXAMPLES, read_examples
from benchmark.metrics.statistics import defines, pooled_metric, values_alone
from benchmark.report import escape, stored
from benchmark.report.rows import identity
from benchmark.report.stored import Where, folder_of
from benchmark.report.tables import split_text

MOST_PICTURES = 1000  # in all: a picture takes some 20 ms, and a community's leaderboard has ten thousand rows


@dataclass(frozen=True)
class Picture:
    """One drawn test image.

    Attributes:
        image: which of the test images it is, the same for all rows of one `test`.
        score: the reported metric on this image alone; None where it is not defined on one, or without stored statistics.
    """

    path: Path
    test: str = ""
    image: int = 0
    score: float | None = None


def refusal(record: Record) -> str:
    """Why no image of this record's dataset may stand on a page; empty when it may. Generated images are nobody's."""
    strict = refusal_here(record)
    if strict or record.phantom or private.may_be_published(record.redistribution):
        return strict
    name = record.job.experiment.dataset.name
    return (
        f"No overlays for {name}: its data agreement lets names of images be passed on, and no images. "
        "`lobe report --with-images` draws them into a folder of their own, for nobody else's eyes."
    )


def refusal_here(record: Record) -> str:
    """Why no image of this record's dataset may be drawn at all; empty when it may."""
    if private.is_restricted(record.redistribution):
        name = record.job.experiment.dataset.name
        return f"No overlays for {name}: its data agreement lets no image leave the output folder."
    return ""


def draw(
    records: Iterable[Record], out: Where, folder: Path, refused: Callable[[Record], str] = refusal
) -> dict[str, dict[str, list[Picture]]]:
    """Draws overlays into `folder`.

    Args:
        out: output folder the records' files lie in, or that of each record by its key.
        refused: why no image of a record's dataset may be drawn.

    Returns:
        task -> row -> pictures (PNG). A row is named by its backbone, and by split, protocol and digest where these tell it from others.

    Raises:
        DamagedResult: a file of a record is not what was stored.
    """
    drawn: dict[str, dict[str, list[Picture]]] = {}
    for name, record in _few(_named(_first_runs(records))):
        lies = folder_of(record.key, out)
        kind = kinds.known(record.job.experiment)
        if kind is None:
            continue
        shown = file_of(record, EXAMPLES_FILE, lies)
        files = _first_file_of(record, kind.drawn_from, lies)
        examples = [] if shown is None else read_examples(shown)
        if refused(record) or not examples or (kind.drawn_from and not files):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        labels, classes = record.job.labels, record.job.experiment.dataset.classes
        named = classes if len(classes) > 1 else ()  # the only class needs no name on every outline
        places, test = [example.index for example in examples], record.sample_digests.get("test", "")
        scores, pictures = _scores(record, places, lies), []
        for number, picture in enumerate(kind.draw(examples, files, named, "phantom" if record.phantom else "")):
            path = folder / f"{escape.slug(labels.task)}-{record.key[:8]}-{number + 1}.png"
            picture.save(path)
            known = number < len(places)
            pictures.append(Picture(path, test, places[number] if known else number, scores[number] if known else None))
        drawn.setdefault(labels.task, {})[name] = pictures
    return drawn


def _scores(record: Record, places: Sequence[int], out: Path) -> list[float | None]:
    """The reported metric on single test images; None where it cannot be had."""
    metric = record.job.experiment.report
    try:
        images = stored.read(record.key, metric, out)
    except OSError:
        return [None] * len(places)
    n = len(images.clusters)
    if not defines(images.statistics, metric) or max(places, default=0) >= n:
        return [None] * len(places)
    values = values_alone(pooled_metric(images.statistics, metric), places, n)
    return [float(value) if math.isfinite(value) else None for value in values]


def _first_file_of(record: Record, names: Iterable[str], out: Path) -> dict[str, Path]:
    """The first of a record's files that is stored, by its name; raises as `draw`."""
    found = ((name, file_of(record, name, out)) for name in names)
    return next(({name: path} for name, path in found if path is not None), {})


def _first_runs(records: Iterable[Record]) -> list[Record]:
    """The successful final run with the lowest number of each row."""
    first: dict[tuple[str, str, str, str], Record] = {}
    for record in records:
        labels, experiment = record.job.labels, record.job.experiment
        row = (labels.task, labels.backbone, labels.protocol, identity(experiment))
        usable = record.status == "ok" and experiment.role is Role.FINAL
        if usable and (row not in first or labels.run < first[row].job.labels.run):
            first[row] = record
    return list(first.values())


def _few(named: list[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """The first rows of each task in alphabetical order, as many of each as `MOST_PICTURES` allows, and at least two."""
    by_task: dict[str, list[tuple[str, Record]]] = {}
    for name, record in sorted(named, key=lambda one: one[0].casefold()):
        by_task.setdefault(record.job.labels.task, []).append((name, record))
    most = max(2, MOST_PICTURES // (N_EXAMPLES * max(1, len(by_task))))
    return [one for members in by_task.values() for one in members[:most]]


def _named(records: list[Record]) -> list[tuple[str, Record]]:
    """Each record with the shortest of its names that no other record of its task has."""

    def names(record: Record) -> list[str]:
        labels, experiment = record.job.labels, record.job.experiment
        short = " · ".join(filter(None, (labels.backbone, split_text(experiment.dataset.split))))
        return [short, f"{short} · {labels.protocol}", f"{short} · {labels.protocol} · {identity(experiment)[:8]}"]

    taken = Counter((record.job.labels.task, name) for record in records for name in names(record))
    return [(next((n for n in names(r) if taken[r.job.labels.task, n] == 1), names(r)[-1]), r) for r in records]
