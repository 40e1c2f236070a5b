"""Overlay pictures of stored predictions: the first run of each row, on the few images its job kept for the eye.

Reads only the output folder; what a picture shows, the task's kind says. Whether a dataset's agreement allows pictures is asked here, once,
before anything is drawn or copied: on pages that others look at (`refusal`), or at least beside the output folder (`refusal_here`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark import kinds, private
from benchmark.cards import Record, Role
from benchmark.integrity import file_of
from benchmark.kinds.kit.stored import EXAMPLES_FILE, read_examples
from benchmark.report import escape
from benchmark.report.rows import identity
from benchmark.report.stored import Where, folder_of
from benchmark.report.tables import split_text


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
) -> dict[str, dict[str, list[Path]]]:
    """Draws overlays into `folder`.

    Args:
        out: output folder the records' files lie in, or that of each record by its key.
        refused: why no image of a record's dataset may be drawn.

    Returns:
        task -> row -> PNG files. A row is named by its backbone, and by split, protocol and digest as far as these tell it from others.

    Raises:
        DamagedResult: a file of a record is not what was stored.
    """
    drawn: dict[str, dict[str, list[Path]]] = {}
    for name, record in _named(_first_runs(records)):
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
        paths = []
        for number, picture in enumerate(kind.draw(examples, files, named, "phantom" if record.phantom else "")):
            path = folder / f"{escape.slug(labels.task)}-{record.key[:8]}-{number + 1}.png"
            picture.save(path)
            paths.append(path)
        drawn.setdefault(labels.task, {})[name] = paths
    return drawn


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


def _named(records: list[Record]) -> list[tuple[str, Record]]:
    """Each record with the shortest of its names that no other record of its task has."""

    def names(record: Record) -> list[str]:
        labels, experiment = record.job.labels, record.job.experiment
        short = " · ".join(filter(None, (labels.backbone, split_text(experiment.dataset.split))))
        return [short, f"{short} · {labels.protocol}", f"{short} · {labels.protocol} · {identity(experiment)[:8]}"]

    taken = Counter((record.job.labels.task, name) for record in records for name in names(record))
    return [(next((n for n in names(r) if taken[r.job.labels.task, n] == 1), names(r)[-1]), r) for r in records]
