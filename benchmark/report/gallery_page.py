"""The page of pictures: truth and prediction on the few test images that jobs kept, as far as each dataset's agreement allows."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import Record
from benchmark.errors import UsageError
from benchmark.files import read_bytes
from benchmark.report import addresses, escape
from benchmark.report.gallery import Picture, refusal
from benchmark.report.material import Material
from benchmark.report.shell import Shell

Overlays = Mapping[str, Mapping[str, Sequence[Picture]]]

BEST, WORST = "its best here", "its worst here"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Shown:
    """One picture on the page: whose, where it lies relative to the site, its score in words, and what stands out of it."""

    label: str
    address: str
    score: str
    mark: str


@dataclass(frozen=True)
class ShownImage:
    """One test image as every row saw it."""

    title: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Gallery:
    """What may be shown of one task: its images, the one that backbones disagree on most first; or why there is none."""

    task: str
    images: tuple[ShownImage, ...]
    refusal: str

    @property
    def n_images(self) -> int:
        return len(self.images)


def collect(shell: Shell, material: Material, overlays: Overlays) -> dict[str, Gallery]:
    """Copies pictures into the site; task -> what may be shown of it.

    Raises:
        UsageError: an overlay is no PNG file.
    """
    by_task: dict[str, list[Record]] = material.by_task
    found = {}
    forbidden: dict[str, Mapping[str, Sequence[Picture]]] = {task: {} for task, members in by_task.items() if any(map(refusal, members))}
    for task, rows in (forbidden | dict(overlays)).items():
        # A task without a record has no known agreement, and is treated as the strictest.
        refusals = [refusal(record) for record in by_task.get(task, [])]
        if not refusals or any(refusals):
            why = next(filter(None, refusals), f"No overlays for {task}: no record says what its dataset allows.")
            found[task] = Gallery(task, (), why)
        else:
            found[task] = Gallery(task, _images(shell, task, rows), "")
    return found


def write(shell: Shell, material: Material, galleries: Mapping[str, Gallery]) -> None:
    shell.render(
        "gallery.html",
        "gallery.html.j2",
        heading="Predictions on test images",
        phantom=any(row.phantom for row in material.rows),
        limited=False,
        galleries=list(galleries.values()),
        titles={row.task: row.task_title for row in material.rows},
    )


def disagreement(scores: Sequence[float | None]) -> float:
    """How far rows are apart on one image: standard deviation of their scores, 0 where fewer than two have one."""
    known = [score for score in scores if score is not None]
    return statistics.pstdev(known) if len(known) > 1 else 0.0


def _images(shell: Shell, task: str, rows: Mapping[str, Sequence[Picture]]) -> tuple[ShownImage, ...]:
    seen: dict[tuple[str, int], list[tuple[str, int, Picture]]] = {}
    for label, pictures in rows.items():
        for number, picture in enumerate(pictures):
            seen.setdefault((picture.test, picture.image), []).append((label, number, picture))
    marks = {label: _marks(pictures) for label, pictures in rows.items()}
    apart = {place: disagreement([picture.score for _, _, picture in members]) for place, members in seen.items()}
    most = max(apart.values(), default=0.0)
    found = []
    for place in sorted(seen, key=lambda one: -apart[one]):
        title = f"Test image {place[1] + 1}" + ", most disagreed on" * (0 < most == apart[place])
        shown = [
            Shown(label, _copy(shell, picture.path, task, label, number), _text(picture.score), marks[label].get(number, ""))
            for label, number, picture in seen[place]
        ]
        found.append(ShownImage(title, tuple(shown)))
    return tuple(found)


def _marks(pictures: Sequence[Picture]) -> dict[int, str]:
    """The best and the worst of one row's pictures, by their numbers; none where scores do not tell them apart."""
    known = {number: picture.score for number, picture in enumerate(pictures) if picture.score is not None}
    if len(set(known.values())) < 2:
        return {}
    return {min(known, key=known.__getitem__): WORST, max(known, key=known.__getitem__): BEST}


def _text(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.1f} %"


def _copy(shell: Shell, path: Path, task: str, backbone: str, number: int) -> str:
    content = read_bytes(path)
    if not content.startswith(_PNG):
        raise UsageError(f"{path}: an overlay must be a PNG file; draw it with benchmark.report.gallery.")
    unique = hashlib.sha256(f"{task}\n{backbone}".encode()).hexdigest()[:8]
    name = f"{addresses.OVERLAYS}/{escape.slug(task)}/{escape.slug(backbone)}-{unique}-{number:02d}.png"
    target = shell.report / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    shell.add(target)
    return name
