"""`lobe submit`: the results of an output folder as one archive, without anything that a dataset's agreement keeps at home.

Packed are records, statistics, and predictions that can be scored again. Of data that may not be passed on, statistics alone, under
pseudonyms. No picture leaves, of any dataset. The same results give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from benchmark import extras, kinds, own_code, private, registry
from benchmark.cards import Failure, Record
from benchmark.cards.base import Card, canonical_json
from benchmark.errors import StoreError, TrainingError, UsageError
from benchmark.files import read_bytes
from benchmark.integrity import PREDICTIONS, bytes_digest, file_of, sealed
from benchmark.kinds.base import Kind
from benchmark.kinds.kit.stored import EXAMPLES_FILE, STATISTICS_FILE, STATISTICS_FILES, read_statistics, write_statistics
from benchmark.metrics.statistics import pooled_metrics
from benchmark.rate_search import is_out
from benchmark.shelf import Shelf
from benchmark.submission import archive, pseudonyms
from benchmark.submission.completeness import missing_from
from benchmark.submission.manifest import FORMAT, NAME, Manifest, PackedFile
from benchmark.submission.verified import STATISTICS, agrees

Progress = Callable[[int, int], None]

# In place of what was said here, which may name folders: a rate at which training failed is part of the search.
_OUT = Failure(kind=TrainingError.__name__, sentence="training failed at this rate", traceback="")


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        id: the submission's name from now on.
        left_out: key and reason of records that are not in it.
        missing: what a complete submission would hold as well, a sentence each.
        pseudonymised: datasets of which statistics alone were packed.
    """

    file: Path
    id: str
    n_bytes: int
    manifest: Manifest
    n_records: int
    left_out: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]

    @property
    def pseudonymised(self) -> tuple[str, ...]:
        return self.manifest.pseudonymised


def pack(
    out: Path,
    to: Path,
    *,
    suite: str | None = None,
    backbones: Iterable[str] = (),
    contact: str = "",
    allow_phantom: bool = False,
    with_predictions: bool = True,
    progress: Progress | None = None,
) -> Packed:
    """Packs the results of an output folder.

    Args:
        to: the archive to write; it may exist already.
        suite: takes its tasks alone; None takes the suite that the records were run for, where it is one.
        backbones: takes these alone, by what tables call them; none takes all.
        contact: who sends it, as they want to be named.
        allow_phantom: for a rehearsal with generated data; the archive says so, and no leaderboard takes it.
        with_predictions: False leaves predictions at home, most of the bytes: nobody can then score them again.
        progress: told how many (records packed, records).

    Raises:
        UsageError: nothing to pack, or only what is never packed; a stored file has an earlier form.
        UnknownName: no such suite.
        StoreError: a record may not be believed, or the archive cannot be written.
    """
    if not (out / "records").is_dir():
        raise UsageError(f"{out} holds no results: it has no folder records. Give the --out of a run.")
    believed, refused = Shelf(out).believable(STATISTICS_FILES, STATISTICS)
    if refused:
        raise StoreError(f"{len(refused):,} records of {out} may not be believed; the first: {refused[0].sentence}")
    suite = suite or _suite_of(believed)
    wanted = None if suite is None else set(registry.suite(suite).tasks)
    records, left_out = _chosen(believed, wanted, set(backbones), out)
    phantoms = [record for record in records if record.phantom]
    if phantoms and not allow_phantom:
        raise UsageError(
            f"{len(phantoms):,} of {len(records):,} records are of generated data, which no leaderboard takes. "
            "To rehearse a submission, add --allow-phantom: the archive is then marked."
        )
    with tempfile.TemporaryDirectory(prefix="lobe-submit-") as work:
        files, hidden = _packed_files(records, Path(work), out, with_predictions, progress)
        for card_name, card in _cards_of(records, suite):
            files[card_name] = _written(Path(work), card_name, _text_of(card))
        manifest = Manifest(
            format=FORMAT,
            lobe=extras.release(),
            code=own_code.digest(),
            suite=suite,
            contact=contact,
            phantom=bool(phantoms),
            backbones=tuple(sorted({record.job.labels.backbone for record in records})),
            tasks=tuple(sorted({record.job.labels.task for record in records})),
            pseudonymised=tuple(sorted(hidden)),
            environments=_environments(records),
            files=tuple(_listed(name, path) for name, path in sorted(files.items())),
        )
        contents: dict[str, Callable[[], bytes]] = {name: partial(read_bytes, path) for name, path in files.items()}
        contents[NAME] = partial(_text_of, manifest)
        _write(to, contents)
    with archive.opened(to) as again:
        sha256, n_bytes = again.sha256, to.stat().st_size
    return Packed(to, sha256[:12], n_bytes, manifest, len(records), tuple(left_out), tuple(missing_from(records, suite)))


def _suite_of(records: Iterable[Record]) -> str | None:
    """The suite that records were run for, where they agree on one that there is."""
    suites = {record.job.labels.suite for record in records if record.scale == "full"}
    (one,) = suites if len(suites) == 1 else (None,)
    return one if one in registry.suites() else None


def _chosen(
    believed: Iterable[Record], tasks: set[str] | None, backbones: set[str], out: Path
) -> tuple[list[Record], list[tuple[str, str]]]:
    """What is packed, and what is not."""
    records: list[Record] = []
    left_out: list[tuple[str, str]] = []
    for record in believed:
        labels = record.job.labels
        if (tasks is not None and labels.task not in tasks) or (backbones and labels.backbone not in backbones):
            continue
        if record.scale != "full":
            left_out.append((record.key, f"{labels.task}: a limited run, which is never ranked"))
        elif is_out(record):
            records.append(record.model_copy(update={"failure": _OUT}))
        elif record.status != "ok":
            left_out.append((record.key, f"{labels.task}: it failed and has no result"))
        else:
            records.append(record)
    if not records:
        why = f" {len(left_out):,} others are left out, the first because: {left_out[0][1]}." if left_out else ""
        raise UsageError(f"{out} has no record to submit.{why}")
    if unknown := backbones - {record.job.labels.backbone for record in records}:
        known = ", ".join(sorted({record.job.labels.backbone for record in records}))
        raise UsageError(f"No record is of {', '.join(sorted(unknown))}; there are: {known}.")
    return records, left_out


def _packed_files(
    records: list[Record], work: Path, out: Path, with_predictions: bool, progress: Progress | None
) -> tuple[dict[str, Path], set[str]]:
    """Files of the archive by name, and the datasets that stand under pseudonyms."""
    files: dict[str, Path] = {}
    hidden: set[str] = set()
    whole = Shelf(out)
    for n, record in enumerate(records):
        if progress is not None:
            progress(n, len(records))
        record = record.model_copy(update={"curve": whole.curve(record.key)})
        if private.is_restricted(record.redistribution):
            record, of = _under_pseudonyms(record, work, out)
            hidden.add(record.job.experiment.dataset.name)
        else:
            of = _as_stored(record, out, with_predictions)
        digests = {name: bytes_digest(read_bytes(path)) for name, path in of.items()}
        record = sealed(record.model_copy(update={"predictions": tuple(sorted(digests)), "file_digests": digests}))
        name = f"records/{record.key}.json"
        files |= of
        files[name] = _written(work, name, _text_of(record))
    if progress is not None:
        progress(len(records), len(records))
    return files, hidden


def _as_stored(record: Record, out: Path, with_predictions: bool) -> dict[str, Path]:
    """Statistics, and predictions where they are wanted and their kind scores them again."""
    kind = kinds.known(record.job.experiment)
    rescored = with_predictions and kind is not None and type(kind).rescore is not Kind.rescore
    found: dict[str, Path] = {}
    for relative in record.predictions:
        name = PurePosixPath(relative).name
        if name == EXAMPLES_FILE or (name not in STATISTICS_FILES and not rescored):
            continue
        if not name.endswith(".parquet"):
            raise UsageError(f"{out / relative} has an earlier release's form. {_to_convert(out)}")
        path = file_of(record, name, out)
        if path is None:
            raise UsageError(f"{out / relative} is missing. Bring it back from a copy, or move its record away.")
        found[relative] = path
    return found


def _to_convert(out: Path) -> str:
    return f"Give it today's with `lobe convert {shlex.quote(str(out))}`, then submit."


def _under_pseudonyms(record: Record, work: Path, out: Path) -> tuple[Record, dict[str, Path]]:
    """The record with its statistics under pseudonyms, and metrics that follow from them in their order."""
    dataset = record.job.experiment.dataset
    if dataset.split_rule.patients is not None:
        raise UsageError(f"The split rule of {dataset.name} lists patients, and its agreement lets nobody pass them on.")
    relative = f"{PREDICTIONS}/{record.key}/{STATISTICS_FILE}"
    if f"{PREDICTIONS}/{record.key}/statistics.json" in record.predictions:
        raise UsageError(f"{out} holds statistics in an earlier release's form. {_to_convert(out)}")
    path = file_of(record, STATISTICS_FILE, out)
    if path is None:
        return record, {}
    found = pseudonyms.pseudonymised(read_statistics(path), pseudonyms.secret_of(out), dataset.name)
    given, pooled = read_statistics(path).statistics, pooled_metrics(found.statistics)
    metrics: dict[str, float] = {}
    for name, value in record.metrics.items():
        again = pooled[name](None) if name in pooled else None
        if again is not None:
            metrics[name] = value if agrees(value, again) else again  # equal confidences stand in another order
        elif name not in pooled_metrics(given):
            metrics[name] = value  # none that statistics give
    target = work / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    write_statistics(target, found, {"key": record.key, "task": record.job.labels.task})
    return record.model_copy(update={"metrics": metrics}), {relative: target}


def _cards_of(records: Iterable[Record], suite: str | None) -> Iterator[tuple[str, Card]]:
    """Cards of suite, tasks, datasets and backbones, for readers of another release and for cards of the author's own."""
    labels, data = {record.job.labels.backbone for record in records}, {record.job.experiment.dataset.name for record in records}
    known: Mapping[str, Mapping[str, Card]] = {
        "suites": {name: card for name, card in registry.suites().items() if name == suite},
        "tasks": {name: registry.tasks()[name] for name in {record.job.labels.task for record in records} & registry.tasks().keys()},
        "datasets": {name: registry.datasets()[name] for name in data & registry.datasets().keys()},
        "backbones": {
            name: card
            for name, card in registry.backbones().items()
            if {card.title or name, name} & {*labels, *(label.partition(" (")[0] for label in labels)}
        },
    }
    for section, cards in known.items():
        yield from ((f"cards/{section}/{name}.json", card) for name, card in cards.items())


def _environments(records: Iterable[Record]) -> tuple[dict[str, str], ...]:
    distinct = {canonical_json(record.environment): record.environment for record in records}
    return tuple(distinct[text] for text in sorted(distinct))


def _text_of(card: Card) -> bytes:
    """JSON in the order of names: a record that was read from the index has them in another order than one from its file."""
    return f"{json.dumps(card.model_dump(mode='json'), indent=1, sort_keys=True)}\n".encode()


def _written(work: Path, name: str, content: bytes) -> Path:
    target = work / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def _listed(name: str, path: Path) -> PackedFile:
    content = read_bytes(path)
    return PackedFile(name=name, bytes=len(content), sha256=bytes_digest(content))


def _write(to: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Under a temporary name first: who waits for the file sees a whole one."""
    temporary = to.with_name(f".{to.name}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        archive.write(temporary, contents)
        temporary.replace(to)
    except OSError as error:
        raise StoreError(f"Cannot write {to}: {error.strerror}. Choose another file with --to.") from None
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
