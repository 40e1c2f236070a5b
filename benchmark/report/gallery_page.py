"""The page of pictures: truth and prediction on the few test images that jobs kept, as far as each dataset's agreement allows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import Record
from benchmark.errors import UsageError
from benchmark.files import read_bytes
from benchmark.report import addresses, escape
from benchmark.report.gallery import refusal
from benchmark.report.material import Material
from benchmark.report.shell import Shell

Overlays = Mapping[str, Mapping[str, Sequence[Path]]]

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Gallery:
    """Overlays of one task: name of a row -> picture paths relative to the site; or why there are none."""

    task: str
    pictures: dict[str, list[str]]
    refusal: str

    @property
    def n_images(self) -> int:
        return max((len(paths) for paths in self.pictures.values()), default=0)


def collect(shell: Shell, material: Material, overlays: Overlays) -> dict[str, Gallery]:
    """Copies pictures into the site; task -> what may be shown of it.

    Raises:
        UsageError: an overlay is no PNG file.
    """
    by_task: dict[str, list[Record]] = material.by_task
    found = {}
    forbidden: dict[str, Mapping[str, Sequence[Path]]] = {task: {} for task, members in by_task.items() if any(map(refusal, members))}
    for task, backbones in (forbidden | dict(overlays)).items():
        # A task without a record has no known agreement, and is treated as the strictest.
        refusals = [refusal(record) for record in by_task.get(task, [])]
        if not refusals or any(refusals):
            why = next(filter(None, refusals), f"No overlays for {task}: no record says what its dataset allows.")
            found[task] = Gallery(task, {}, why)
            continue
        pictures = {label: [_copy(shell, path, task, label, i) for i, path in enumerate(paths)] for label, paths in backbones.items()}
        found[task] = Gallery(task, pictures, "")
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
