"""Pictures that may not be published: drawn on demand into a folder of their own, beside the report and never in it.

For datasets whose agreement lets names of images be passed on and no images. The folder is its owner's alone, and every page of it says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark import private
from benchmark.report import escape
from benchmark.report.addresses import name_of
from benchmark.report.gallery import Picture
from benchmark.report.pages import environment, write_page

FOLDER = "pictures-not-for-publication"
NOTE = (
    "These pictures show images whose data agreement lets no image be passed on. "
    "Keep the folder to yourself: publish the report without it.\n"
)


def write(out: Path, overlays: Mapping[str, Mapping[str, Sequence[Picture]]]) -> Path:
    """Writes `<out>/pictures-not-for-publication/` anew and returns its page.

    Args:
        overlays: task id -> name of a row -> pictures, of such datasets alone.
    """
    folder = out / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    private.folder(folder)
    shown: dict[str, dict[str, list[str]]] = {}
    for task, rows in overlays.items():
        for label, pictures in rows.items():
            for number, picture in enumerate(pictures):
                name = f"{escape.slug(task)}-{name_of(label)}-{number:02d}.png"
                shutil.copyfile(picture.path, folder / name)
                (folder / name).chmod(private.FILE)
                shown.setdefault(task, {}).setdefault(label, []).append(name)
    write_page(folder / "NOT-FOR-PUBLICATION.txt", NOTE)
    text = (
        environment()
        .get_template("local_pictures.html.j2")
        .render(title="Pictures that stay here", phantom=False, limited=False, note=NOTE, tasks=shown)
    )
    return write_page(folder / "index.html", text)
