"""What `lobe data` and `lobe clean` do: status, verification and preparation of datasets, and the caches made from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache as remembered
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from benchmark import registry, resolve
from benchmark.cards import DatasetCard
from benchmark.contents import Memory
from benchmark.errors import DataError, LobeError, PartialRelease, SplitError, UsageError
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import list_caches
from benchmark.readers.base import Check, Reader, Verification, open_reader
from benchmark.readers.kit.audit import leakage, leakage_checks, summary_check
from benchmark.readers.kit.cached import cache_recipe
from benchmark.readers.kit.generated import PHANTOM_FILE
from benchmark.readers.kit.identity import listed
from benchmark.readers.kit.lists import NAME as LISTS
from benchmark.readers.kit.lists import lists_rule, parse, published_rule, require_known, require_same_boxes
from benchmark.readers.kit.own import OwnReader
from benchmark.readers.kit.splits import PatientOf
from benchmark.submission.shown import unpacked
from benchmark.training import feature_folders

FRAME_SIZE = 224  # LoVT 2.3
CHUNK = 32

Step = Callable[[int, int], None]


def status(data: Sequence[str], cache: Path | None) -> list[dict[str, Any]]:
    """One row a known dataset: there or not, which release, how much of it is cached.

    Raises:
        UsageError: a folder that was named is none, so that a slip of the pen is not taken for data that are absent.
    """
    roots = resolve.data_roots(data)
    for name, folder in roots.items():
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}: look at {'--data, or $LOBE_DATA' if name is None else f'--data {name}=PATH'}.")
    cached = list_caches(resolve.cache_folder(cache) / "images")
    rows = []
    for card in registry.datasets().values():
        row: dict[str, Any] = {"dataset": card.name, "state": "absent", "release": None, "phantom": None, "images": None, "folder": None}
        row["cached_bytes"] = sum(c.bytes for c in cached if c.dataset == card.name)
        try:
            root = resolve.dataset_root(card, roots)
            row["folder"] = str(root)
            if resolve.is_there(card, root):
                reader = open_reader(card, root)
                row |= {"state": "ready", "release": reader.release, "phantom": reader.phantom is not None, "images": len(reader.ids)}
        except LobeError as error:
            row |= {"state": "error", "release": str(error)}
        rows.append(row)
    return rows


def verify(names: Sequence[str], data: Sequence[str], splits: Path | None = None) -> list[Verification]:
    """Checks of each named dataset, or of every one that is there, and how far its splits leak. A damaged dataset stops only itself.

    Args:
        splits: folder with one sub-folder of split lists per dataset, checked as well.

    Raises:
        DataError: not one dataset can be opened, or none is there.
    """
    found: list[Verification] = []
    errors: list[LobeError] = []
    for card, root in _present(names, data):
        try:
            reader = open_reader(card, root)
        except LobeError as error:
            errors.append(error)
            damaged = Check("label files and images", "readable", str(error), "error", "Mend this and verify again.")
            found.append(Verification(card.name, "not readable", (root / PHANTOM_FILE).exists(), (damaged,)))
        else:
            found.append(_verified(reader, splits))
    _require_one_opened(errors, len(found))
    return found


def odd_places(names: Sequence[str], data: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every oddity of one's own data with its place, images by name whatever the card's `redistribution`: for the owner's eyes.

    Raises:
        DataError: a dataset cannot be opened, or none of those named is one's own.
    """
    own = [(card, root) for card, root in _present(names, data) if card.own is not None]
    if not own:
        raise DataError("None of these datasets is your own data (docs/your-data.md), so there are no names to list.")
    for card, root in own:
        reader = open_reader(card.model_copy(update={"redistribution": "ids"}), root)
        assert isinstance(reader, OwnReader)
        yield from ({"dataset": card.name, "what": what, "where": where} for what, where in reader.odd_places())


def prepare(
    names: Sequence[str],
    data: Sequence[str],
    cache: Path | None,
    workers: int,
    bar: Callable[[str], AbstractContextManager[Step]],
    size: int = FRAME_SIZE,
) -> list[dict[str, Any]]:
    """Fills the decode-once cache of each dataset; unreadable images and damaged datasets are listed and the rest goes on.

    Args:
        size: of the frame in pixels, as in the card of the task it is for.

    Raises:
        DataError: not one dataset can be opened, or none is there.
        UsageError: no task has a frame of that size.
    """
    if size % 32:
        raise UsageError(f"A frame's side is a multiple of 32 pixels, not {size}: no task would find such a cache.")
    rows: list[dict[str, Any]] = []
    errors: list[LobeError] = []
    for card, root in _present(names, data):
        try:
            reader = open_reader(card, root)
        except LobeError as error:
            errors.append(error)
            nothing = {"images": 0, "unreadable": None, "bytes": 0, "cache": None}
            rows.append({"dataset": card.name, **nothing, "problems": [str(error)], "notes": []})
            continue
        folder = resolve.cache_folder(cache) / "images"
        opened = ImageCache.open(folder, cache_recipe(reader, reader.card.intensity, size), reader.ids)
        contents, memory = listed(reader, reader.ids), Memory(folder.parent)
        problems: list[str] = []
        with bar(f"{card.name} images") as step:
            for done, chunk in _chunks(reader.ids):
                samples = [reader.sample(i) for i in chunk]
                problems += [bad.sentence for bad in opened.fill(samples, workers=workers, contents=contents, memory=memory)]
                step(done, len(reader.ids))
        rows.append(
            {
                "dataset": card.name,
                "images": len(reader.ids) - len(problems),
                "unreadable": len(problems),
                "bytes": opened.size_bytes(),
                "cache": str(opened.path),
                "problems": problems,
                "notes": opened.mended(),
            }
        )
    _require_one_opened(errors, len(rows))
    return rows


def caches(cache: Path | None) -> list[dict[str, Any]]:
    """Every image cache, every set of features and every unpacked submission with its size."""
    images = resolve.cache_folder(cache) / "images"
    found = [{"dataset": c.dataset, "bytes": c.bytes, "folder": str(c.path)} for c in list_caches(images)]
    sets = feature_folders.list_sets(images.parent / feature_folders.FOLDER)
    found += [{"dataset": f"{s.dataset}, features", "bytes": s.bytes, "folder": str(s.path)} for s in sets]
    return found + [{"dataset": f"submission {path.name[:12]}", "bytes": n, "folder": str(path)} for path, n in unpacked(images.parent)]


def remove_caches(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        shutil.rmtree(row["folder"])


def _verified(reader: Reader, splits: Path | None) -> Verification:
    checks: list[Check] = []
    try:
        for check in chain(reader.checks(), reader.audit()):
            checks.append(check)  # one by one: what was found before an error stays
    except LobeError as error:
        checks.append(Check("further checks", "possible", str(error), "error", "Mend this and verify again."))
    patient_of = remembered(lambda sample_id: reader.sample(sample_id).patient_id)
    for name, rule in reader.card.splits.items():
        try:
            counts = leakage(reader.split(rule), patient_of)
        except LobeError as error:
            # A split that needs what a release may lack, such as patients, is no fault of the folder; LoVT's is always possible.
            verdict: Literal["unknown", "error"] = "unknown" if isinstance(error, SplitError) and name != "lovt" else "error"
            checks.append(Check(f"split {name}", "possible", "not possible", verdict, str(error)))
        else:
            checks += leakage_checks(reader.card, name, counts) if name == "lovt" or reader.card.own else [summary_check(name, counts)]
    if splits is not None:
        checks += _checks_of_lists(reader, splits / reader.card.name, patient_of)
    return Verification(reader.card.name, reader.release, reader.phantom is not None, tuple(checks), reader.partial)


def _require_one_opened(errors: Sequence[LobeError], n_datasets: int) -> None:
    if errors and len(errors) == n_datasets:
        raise DataError("\n".join(map(str, errors)))


def _checks_of_lists(reader: Reader, folder: Path, patient_of: PatientOf) -> Iterator[Check]:
    """Lists against the release, against LoVT's own, and what they leak."""
    if not folder.is_dir():
        yield Check("split lists", str(folder), "no such folder", "unknown")
        return
    try:
        lists = parse(reader, folder)
    except LobeError as error:
        yield Check("split lists", "ids and boxes of the release", "not readable", "error", str(error))
        return
    wrong: list[LobeError] = []
    for require in (require_known, require_same_boxes):
        try:
            require(reader, lists, folder)
        except LobeError as error:
            wrong.append(error)
    if wrong:
        yield Check("split lists", "ids and boxes of the release", "differ", "error", "\n".join(map(str, wrong)))
    else:
        sizes = ", ".join(f"{split} {len(ids):,}" for split, ids in lists.splits.items())
        yield Check("split lists", "ids and boxes of the release", sizes, "ok")
    published = published_rule(reader.card)
    if published is not None:
        same = lists_rule(lists.splits) == published
        hint = "" if same else "Results with these lists do not stand beside published numbers."
        yield Check("split lists are LoVT's", "in content and order", "yes" if same else "no", "ok" if same else "warning", hint)
    for split, ids in lists.splits.items():
        repeated = len(ids) - len(set(ids))
        if repeated:
            yield Check(f"split {LISTS}: images twice in {split}", "0", f"{repeated:,}", "error")
    known = set(reader.ids)
    in_release = {split: tuple(i for i in ids if i in known) for split, ids in lists.splits.items()}
    yield from leakage_checks(reader.card, LISTS, leakage(in_release, patient_of))


def _present(names: Sequence[str], data: Sequence[str]) -> list[tuple[DatasetCard, Path]]:
    roots = resolve.data_roots(data)
    if names:
        return [(card, resolve.dataset_root(card, roots)) for card in map(registry.dataset, names)]
    found: list[tuple[DatasetCard, Path]] = []
    releases = [card for card in registry.datasets().values() if not card.parts]  # a transfer has no files that its parts do not have
    for card in releases:
        try:
            root = resolve.dataset_root(card, roots)
        except DataError:
            continue
        # Cards may share a release of which only a part is there: boxes of ChestX-ray14 need few of its images, labels need all.
        if root.is_dir() and not (root in {other for _, other in found} and _is_partial(card, root)):
            found.append((card, root))
    if not found:
        folders = ", ".join(dict.fromkeys(card.folder for card in releases))
        raise DataError(f"No dataset folder in {', '.join(map(str, roots.values()))}. Expected one of: {folders}.")
    return found


def _is_partial(card: DatasetCard, root: Path) -> bool:
    try:
        open_reader(card, root)
    except PartialRelease:
        return True
    except LobeError:
        return False  # damage is told by whoever opens it
    return False


def _chunks(ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(ids), CHUNK):
        yield min(start + CHUNK, len(ids)), ids[start : start + CHUNK]
