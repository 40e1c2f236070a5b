"""What was to run in an output folder, so that a report can name what is missing: `<out>/planned.jsonl`, one line an evaluation.

An evaluation is of one backbone (by its name), task, protocol, split and scale. Its last line counts: a plan adds lines for what it changes
and reads of the others only where they begin, so that its cost is that of its own jobs. Cards that many jobs share, such as a dataset,
stand once, on lines of their own. Folders of earlier releases have one list of whole jobs, `planned.json`; it is read, and moved here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedRandom
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmark import json_files, shared_cards
from benchmark.cards import Job, canonical_json
from benchmark.cards.base import Card
from benchmark.contents import stamp_of
from benchmark.errors import StoreError
from benchmark.files import open_regular, write_atomically

PLANNED, EARLIER = "planned.jsonl", "planned.json"
SPARE_BYTES = 2**20  # of lines that no longer count; above it, and where they are the larger half, the file is written anew

_HEADER = '["lobe","plans",1]\n'
_JOBS, _MORE, _CARD = '["jobs","', '["more","', '["card","'  # how a line begins; then a name of 32 digits


def read(out: Path) -> list[Job]:
    """The jobs of the last plan of every evaluation, done or not, sorted by key; empty where nothing was planned.

    Raises:
        StoreError: a file was damaged.
    """
    path = out / PLANNED
    last = {name: number for number, (kind, name, _) in enumerate(_lines(path)) if kind == _JOBS}
    jobs = {job.key: job for job in _earlier(out) if _name_of(job) not in last}
    known: dict[str, Card] = {}
    try:
        for number, (kind, name, line) in enumerate(_lines(path)):
            if kind == _CARD:
                _, digest, which, content = json_files.parse(line, list)
                known[digest] = shared_cards.KINDS[which].model_validate(content)
            elif kind != _HEADER and number >= last[name]:
                jobs |= {job.key: job for job in (_job(raw, known) for raw in json_files.parse(line, list)[-1])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None
    return [jobs[key] for key in sorted(jobs)]


def write(out: Path, jobs: Iterable[Job]) -> None:
    """Remembers what is to run. A plan replaces the earlier ones of its evaluations and no others: fewer seeds are then not missing runs.

    Args:
        jobs: those of one evaluation one after another, as plans give them.

    Raises:
        StoreError: a file was damaged, or the folder cannot be written.
    """
    path = out / PLANNED
    known: dict[str, tuple[str, int]] = {}  # evaluation -> digest of its jobs, and bytes of its lines
    stored_cards: set[str] = set()
    n_bytes = n_spare = 0
    for kind, name, line in _lines(path):
        n_bytes += len(line)
        if kind == _CARD:
            stored_cards.add(name)
        elif kind == _JOBS:
            n_spare += known.get(name, ("", 0))[1]
            known[name] = _content_name(line), len(line)
        elif kind == _MORE:
            known[name] = "", known[name][1] + len(line)
    earlier = _earlier(out)
    moved = sorted((job for job in earlier if _name_of(job) not in known), key=_name_of)
    replaced: set[str] = set()  # evaluations of this plan, as far as it was written
    try:
        with _appending(path, n_bytes) as handle:
            for is_moved, name, group in _grouped(moved, jobs):
                listed = list(group)
                content = canonical_json([_without_cards(job) for job in listed])
                kind, digest = (_MORE if name in replaced else _JOBS), shared_cards.digest(content)
                if not is_moved:
                    replaced.add(name)
                if kind == _JOBS and known.get(name, ("", 0))[0] == digest:
                    continue
                for which, text in (pair for job in listed for pair in shared_cards.of_experiment(job.experiment).items()):
                    if (card_name := shared_cards.digest(text)) not in stored_cards:
                        stored_cards.add(card_name)
                        handle.write(f'{_CARD}{card_name}","{which}",{text}]\n'.encode())
                n_spare += known.get(name, ("", 0))[1] if kind == _JOBS else 0
                handle.write(f'{kind}{name}","{digest}",{content}]\n'.encode())
            n_bytes = handle.tell()
        (out / EARLIER).unlink(missing_ok=True)
        if n_spare > max(SPARE_BYTES, n_bytes / 2):
            _write_anew(path)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}. Make room or fix permissions and run the same command again.") from None


def stamps(out: Path) -> list[str]:
    """What changes whenever `read` may give something else."""
    found = []
    for path in (out / PLANNED, out / EARLIER):
        try:
            found.append(stamp_of(path).hex())
        except OSError:
            found.append("")
    return found


def _grouped(moved: Iterable[Job], jobs: Iterable[Job]) -> Iterator[tuple[bool, str, Iterator[Job]]]:
    """Jobs of one evaluation that follow each other: whether they come from `planned.json`, their evaluation, and themselves."""
    for is_moved, listed in ((True, moved), (False, jobs)):
        yield from ((is_moved, name, group) for name, group in groupby(listed, _name_of))


def _earlier(out: Path) -> list[Job]:
    """The jobs of `planned.json`."""
    path = out / EARLIER
    if not path.exists():
        return []
    try:
        return [Job.model_validate(job) for job in json_files.read(path, list)]
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _lines(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Beginning, name and bytes of each line; one that was cut off at the end says nothing.

    Raises:
        StoreError: a line begins in another way.
    """
    try:
        with open_regular(path) as handle:
            for number, line in enumerate(handle):
                if not line.endswith(b"\n"):
                    return
                kind, name = (
                    line[: len(_JOBS)].decode(errors="replace"),
                    line[len(_JOBS) : len(_JOBS) + shared_cards.DIGITS].decode(errors="replace"),
                )
                if number == 0 and line == _HEADER.encode():
                    yield _HEADER, "", line
                elif number > 0 and kind in (_JOBS, _MORE, _CARD):
                    yield kind, name, line
                else:
                    raise ValueError(f"line {number + 1:,} is none of a plan")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


@contextmanager
def _appending(path: Path, n_bytes: int) -> Iterator[BufferedRandom]:
    """Opens the file behind its last whole line; what is written is on the disk when this ends."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as handle:
        handle.truncate(n_bytes)
        handle.seek(n_bytes)
        if n_bytes == 0:
            handle.write(_HEADER.encode())
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


def _write_anew(path: Path) -> None:
    """Without the lines that no longer count, and cards that only those had."""
    lines = list(_lines_that_count(path))
    jobs = (raw for kind, _, line in lines if kind != _CARD for raw in json_files.parse(line, list)[-1])
    used = {raw["experiment"][name] for raw in jobs for name in shared_cards.KINDS}
    write_atomically(path, b"".join([_HEADER.encode(), *(line for kind, name, line in lines if kind != _CARD or name in used)]))


def _lines_that_count(path: Path) -> Iterator[tuple[str, str, bytes]]:
    last = {name: number for number, (kind, name, _) in enumerate(_lines(path)) if kind == _JOBS}
    for number, (kind, name, line) in enumerate(_lines(path)):
        if kind == _CARD or (kind != _HEADER and number >= last[name]):
            yield kind, name, line


def _name_of(job: Job) -> str:
    """Of the evaluation of a job. One limit is one scale: a plan for 16 images says nothing of one for 32."""
    experiment, labels = job.experiment, job.labels
    scale = (experiment.dataset.split, experiment.limit, experiment.profile)
    return shared_cards.digest(canonical_json([labels.backbone, labels.task, labels.protocol, *scale]))


def _without_cards(job: Job) -> dict[str, Any]:
    raw = job.model_dump(mode="json", exclude={"experiment": set(shared_cards.KINDS)})
    raw["experiment"] |= {name: shared_cards.digest(text) for name, text in shared_cards.of_experiment(job.experiment).items()}
    return raw


def _job(raw: dict[str, Any], known: dict[str, Card]) -> Job:
    shared_cards.put_back(raw["experiment"], lambda _, digest: known[digest])
    return Job.model_validate(raw)


def _content_name(line: bytes) -> str:
    start = len(_JOBS) + shared_cards.DIGITS + len('","')
    return line[start : start + shared_cards.DIGITS].decode(errors="replace")


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} is damaged ({str(error).splitlines()[0]}). Move it away; the next `lobe run` writes it.")
