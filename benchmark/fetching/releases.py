"""A dataset's release into a data folder: what may be downloaded is, and for the rest a person's steps are listed.

Everything is fetched and unpacked in `.lobe-get` beside the release's folder, which appears under its name in one step, at the end. What
was fetched before a fault stays there, and the same command goes on with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark import json_files, registry
from benchmark.cards import DatasetCard, ReleaseCard, ReleaseFile
from benchmark.contents import digest_like
from benchmark.errors import DataError, UsageError
from benchmark.fetching.keeping import fetched
from benchmark.fetching.transfer import FetchError, Progress, Wanted
from benchmark.fetching.unpacking import is_archive, unpack
from benchmark.files import write_atomically

WORK = ".lobe-get"  # beside the releases' folders; names with a leading dot are no data
RECORD = "fetched.json"
_UNPACKED, _LOCK = "unpacked", ".lock"

_BY_TERMS = {
    "download": "Download it from there; it asks for no signature.",
    "account": "Make a free account there and accept the terms.",
    "agreement": "Sign the agreement that it asks for, and wait until it is granted.",
    None: "Read there what it asks for.",
}


@dataclass(frozen=True)
class Got:
    """
    Attributes:
        name: the release's folder.
        folder: where it lies, or belongs.
        state: "there" before, "fetched" now, or "by hand": nothing of it can be downloaded for the user.
        n_files: written now.
        steps: what is left for a person to do, in order.
        notes: what to know of what was fetched.
    """

    name: str
    folder: Path
    state: str
    n_files: int = 0
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def get(
    names: list[str], root: Path, progress: Callable[[str], contextlib.AbstractContextManager[Progress]], keep: bool = False
) -> list[Got]:
    """Gets the releases of some datasets into `root`, one folder each; both releases of a transfer.

    Args:
        progress: a bar for each title, told bytes.
        keep: the archives stay in `.lobe-get`.

    Raises:
        UnknownName: no such dataset.
        UsageError: another command fetches into this folder, or it cannot be written.
        FetchError, DataError: as of the parts; what is whole stays, and the same command goes on.
    """
    cards = [registry.dataset(name) for name in names]
    ones = [registry.dataset(part) for card in cards for part in (card.parts.values() or (card.name,))]
    found = []
    for card in {one.folder: one for one in ones}.values():
        release = registry.releases().get(card.folder)
        found.append(_get(card, release, root, progress, keep))
    return found


def _get(
    card: DatasetCard,
    release: ReleaseCard | None,
    root: Path,
    progress: Callable[[str], contextlib.AbstractContextManager[Progress]],
    keep: bool,
) -> Got:
    folder = root / card.folder
    if _holds_anything(folder):
        return Got(card.folder, folder, "there", notes=(f"There already, and left as it is: {folder}.",))
    steps = steps_of(card, release, folder)
    if release is None or not release.files:
        return Got(card.folder, folder, "by hand", steps=steps)
    work = root / WORK / card.folder
    with _alone(work):
        notes = [f"What no download has confirmed: {release.unverified}."] if release.unverified else []
        shutil.rmtree(work / _UNPACKED, ignore_errors=True)
        staged = work / _UNPACKED
        staged.mkdir()
        n_files = 0
        for file in release.files:
            path, note = _fetched(file, release, work, root, progress)
            notes += [note] if note else []
            n_files += _placed(path, file, staged, progress, keep)
        _appear(staged, folder)
        if not keep:
            for left in work.iterdir():
                if left.name != _LOCK:
                    left.unlink()
    return Got(card.folder, folder, "fetched", n_files, steps, tuple(notes))


def steps_of(card: DatasetCard, release: ReleaseCard | None, folder: Path) -> tuple[str, ...]:
    """What a person has to do for this release, in order; for one that no card describes, after its dataset's source and terms."""
    if release is not None:
        return tuple(step.replace("{folder}", str(folder)) for step in release.steps)
    return (
        f"Go to its publisher: {card.source}.",
        f"{_BY_TERMS[card.terms]} Its licence: {card.licence}.",
        f"Put the files, as the release unpacks, into {folder}: {', '.join(card.files)}.",
    )


def _fetched(
    file: ReleaseFile,
    release: ReleaseCard,
    work: Path,
    root: Path,
    progress: Callable[[str], contextlib.AbstractContextManager[Progress]],
) -> tuple[Path, str]:
    """The file, and what to know of its digest."""
    wanted = Wanted(file.name, file.url, file.digest, file.n_bytes, file.about_bytes, release.page, _is_text(file.name))
    with progress(f"{release.name} · {file.name}") as step:
        path = fetched(wanted, work, step)
    if file.digest:
        return path, ""
    found, earlier = digest_like("sha256:", path), _recorded(root).get(file.url, {}).get("sha256")
    if earlier is None:
        _record(root, file.url, found, path.stat().st_size)
        return path, f"{file.name}: digest not known; recorded on this first download: {found}."
    if earlier != found:
        path.unlink()
        raise FetchError(
            f"{file.url} gave a file with {found}, and the first download here had {earlier}: its publisher has changed it, or it was "
            f"altered on the way. It was deleted. If the change is meant, take its entry out of {root / WORK / RECORD}."
        )
    return path, f"{file.name}: the same as the first download here, {found}."


def _placed(
    path: Path, file: ReleaseFile, staged: Path, progress: Callable[[str], contextlib.AbstractContextManager[Progress]], keep: bool
) -> int:
    """Puts an archive's files, or the file itself, into the folder to be; gives their number."""
    place = staged / file.into
    place.mkdir(parents=True, exist_ok=True)
    if is_archive(path):
        try:
            with progress(f"unpacking {file.name}") as step:
                return unpack(path, place, file.strip, step)
        except DataError:
            path.unlink(missing_ok=True)  # fetched whole, and no use: the next try fetches it again
            raise
    if file.name.endswith((".zip", ".tgz", ".tar", ".gz", ".xz", ".bz2")):
        path.unlink()
        raise DataError(f"{file.url} gave a file that is no archive, though it is called {file.name}. It was deleted.")
    if (place / file.name).exists():
        raise DataError(f"{file.name} comes twice into {file.into or 'the release'}: once of an archive, once by itself.")
    if keep:
        shutil.copyfile(path, place / file.name)
    else:
        os.replace(path, place / file.name)
    return 1


def _appear(staged: Path, folder: Path) -> None:
    """Gives the finished folder its name; an empty one that waits there is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    os.rename(staged, folder)


def _holds_anything(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Makes the working folder, for one command at a time."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"Another command fetches into {work.parent.parent} already: wait until it has ended.") from None
    except OSError as error:
        raise UsageError(f"Cannot write into {work.parent.parent}: {error.strerror or error}.") from None
    try:
        yield
    finally:
        lock.release()


def _recorded(root: Path) -> dict[str, dict[str, str]]:
    with contextlib.suppress(OSError, ValueError):
        return {url: entry for url, entry in json_files.read(root / WORK / RECORD).items() if isinstance(entry, dict)}
    return {}


def _record(root: Path, url: str, digest: str, n_bytes: int) -> None:
    entry = {"sha256": digest, "bytes": str(n_bytes), "first": datetime.now(UTC).date().isoformat()}
    write_atomically(root / WORK / RECORD, json.dumps(_recorded(root) | {url: entry}, indent=1).encode())


def _is_text(name: str) -> bool:
    return name.endswith((".html", ".htm", ".xml", ".svg"))
