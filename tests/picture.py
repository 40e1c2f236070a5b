"""The picture of the readme: `python -m tests.picture [DEMO]` draws the demo's front page in a browser, `make picture` runs it.

The picture holds what it was drawn from (records, resamples of those that are ranked, the panel) and a digest of the page, so that a test
can write the page again, without a browser, and see whether it still is the one in the picture. Without DEMO what it holds is drawn anew,
which is enough where only pages look otherwise; with DEMO, the folder of `lobe demo`, its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark import panel_files
from benchmark.cards import PanelCard, Record
from benchmark.report.resampling import Resampled, of_record
from benchmark.report.site import write_site
from benchmark.store import Store

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "leaderboard.png"
TITLE = "LOBE demo"
SHOWN, DIGEST = "lobe-shown", "lobe-page"  # names of the picture's text chunks
SIZE = (1262, 1310)
OWN = ("index.html", "assets/lobe.css", "assets/core.js", "assets/tables.js", "assets/figures.js", "data/figures/scores-0.js")
"""What the picture shows, without the components of others, whose versions may differ from machine to machine."""
# Of a record, what the page does not show: where and when it was computed.
_LEFT_OUT = {"curve": (), "environment": {}, "finished_at": "", "checksum": "", "predictions": (), "file_digests": {}}


@dataclass(frozen=True)
class Shown:
    """What a front page is written from.

    Attributes:
        resamples: of the ranked records, by key, rounded to float16: a page shows intervals to two digits.
    """

    records: Sequence[Record]
    panels: Sequence[PanelCard] = ()
    resamples: Mapping[str, Resampled] = field(default_factory=dict)

    def as_text(self) -> str:
        def of(one: Resampled) -> dict[str, Any]:
            values = base64.b64encode(one.values.astype("<f2").tobytes()).decode()
            return {"values": values, "test": one.test, "n_clusters": one.n_clusters, "by_patient": one.by_patient}

        content = {
            "records": [json.loads(record.model_dump_json()) for record in self.records],
            "panels": [json.loads(panel.model_dump_json()) for panel in self.panels],
            "resamples": {key: of(one) for key, one in self.resamples.items()},
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Shown:
        def resampled(values: str, **about: Any) -> Resampled:
            return Resampled(np.frombuffer(base64.b64decode(values), "<f2").astype(np.float32)[:, None], **about)

        content = json.loads(text)
        return cls(
            [Record.model_validate(one) for one in content["records"]],
            [PanelCard.model_validate(one) for one in content["panels"]],
            {key: resampled(**one) for key, one in content["resamples"].items()},
        )

    @property
    def bare(self) -> Shown:
        """As a picture holds it."""
        records = [record.model_copy(update=_LEFT_OUT | {"environment": _device(record)}) for record in self.records]
        return Shown.of_text(replace(self, records=records).as_text())


def of_demo(folder: Path) -> Shown:
    """What the front page of `lobe demo` shows."""
    out = folder / "out"
    records = Store(out).all()
    panels = list(panel_files.read_all([folder / "panel" / "results"]).values())
    tasks = {task for panel in panels for task in panel.tasks}
    resamples = {r.key: found for r in records if r.job.labels.task in tasks and (found := of_record(r, out)) is not None}
    return Shown(records, panels, resamples)


def holds_anything(picture: Path = PICTURE) -> bool:
    """Whether the picture was drawn by this command, and so can say what it shows."""
    with Image.open(picture) as image:
        return SHOWN in _texts(image)


def shown_in(picture: Path = PICTURE) -> Shown:
    """What a picture was drawn from.

    Raises:
        KeyError: the picture does not say: it was not drawn here.
    """
    with Image.open(picture) as image:
        return Shown.of_text(_texts(image)[SHOWN])


def digest_in(picture: Path = PICTURE) -> str:
    """The digest of the page that a picture shows."""
    with Image.open(picture) as image:
        return _texts(image)[DIGEST]


def front_page(shown: Shown, folder: Path) -> tuple[Path, str]:
    """Writes the site; returns its front page and the digest of what the picture shows of it."""
    page = write_site(shown.records, folder, title=TITLE, panels=shown.panels, resampled=lambda record: shown.resamples.get(record.key))
    sha = hashlib.sha256()
    for name in OWN:
        sha.update(name.encode() + b"\0" + (page.parent / name).read_bytes())
    return page, sha.hexdigest()


def draw(shown: Shown, picture: Path = PICTURE) -> None:
    """Draws the front page in a browser and writes the picture."""
    shown = shown.bare
    with tempfile.TemporaryDirectory() as folder:
        page, digest = front_page(shown, Path(folder))
        hold(_shot(page, Path(folder) / "shot.png"), shown, digest, picture)


def hold(shot: Path, shown: Shown, digest: str, picture: Path) -> None:
    """Writes the picture of a page with what it was drawn from."""
    held = PngInfo()
    held.add_text(SHOWN, shown.as_text(), zip=True)
    held.add_text(DIGEST, digest)
    with Image.open(shot) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(picture, pnginfo=held, optimize=True)


def main(arguments: Sequence[str]) -> None:
    if not arguments and not holds_anything():
        sys.exit(f"docs/{PICTURE.name} does not say what it shows: run `lobe demo`, then `make picture DEMO=lobe-demo`.")
    shown = of_demo(Path(arguments[0])) if arguments else shown_in()
    draw(shown)
    print(f"{PICTURE.name}: {len(shown.records)} records, {PICTURE.stat().st_size // 1024} KiB.")


def _shot(page: Path, shot: Path) -> Path:
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("make picture needs a browser: apt-get install chromium.")
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = opened.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        shown.goto(page.as_uri())
        shown.wait_for_load_state("networkidle")
        shown.wait_for_timeout(1500)  # the figure is drawn when it comes into view
        shown.screenshot(path=str(shot))
        opened.close()
    return shot


def _device(record: Record) -> dict[str, str]:
    return {name: record.environment[name] for name in ("device", "lobe", "lobe-bench") if name in record.environment}


def _texts(image: Image.Image) -> dict[str, str]:
    image.load()
    return dict(getattr(image, "text", {}))


if __name__ == "__main__":
    main(sys.argv[1:])
