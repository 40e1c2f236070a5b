"""The picture of the readme: `python -m tests.picture [OUT]` draws the demo's front page in a browser, `make picture` runs it.

The picture holds the records that it was drawn from, and a digest of the page, so that a test can write the page again, without a browser,
and see whether it still is the one in the picture. Without OUT the records in the picture are drawn anew, which is enough where only pages
look otherwise; with OUT, the output folder of `lobe demo`, its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark.cards import Record
from benchmark.report.site import write_site

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "leaderboard.png"
TITLE = "LOBE demo"
RECORDS, DIGEST = "lobe-records", "lobe-page"  # names of the picture's text chunks
SIZE = (1262, 1310)
OWN = ("index.html", "assets/lobe.css", "assets/core.js", "assets/tables.js", "assets/figures.js", "data/figures/scores-0.js")
"""What the picture shows, without the components of others, whose versions may differ from machine to machine."""
# Of a record, what the page does not show: where and when it was computed.
_LEFT_OUT = {"curve": (), "environment": {}, "finished_at": "", "checksum": "", "predictions": (), "file_digests": {}}


def holds_records(picture: Path = PICTURE) -> bool:
    """Whether the picture was drawn by this command, and so can say what it shows."""
    with Image.open(picture) as image:
        return RECORDS in _texts(image)


def records_in(picture: Path = PICTURE) -> list[Record]:
    """The records that a picture was drawn from.

    Raises:
        KeyError: the picture holds none: it was not drawn here.
    """
    with Image.open(picture) as image:
        return [Record.model_validate(one) for one in json.loads(_texts(image)[RECORDS])]


def digest_in(picture: Path = PICTURE) -> str:
    """The digest of the page that a picture shows."""
    with Image.open(picture) as image:
        return _texts(image)[DIGEST]


def front_page(records: Sequence[Record], folder: Path) -> tuple[Path, str]:
    """Writes the site of some records; returns its front page and the digest of what the picture shows of it."""
    page = write_site(records, folder, title=TITLE)
    sha = hashlib.sha256()
    for name in OWN:
        sha.update(name.encode() + b"\0" + (page.parent / name).read_bytes())
    return page, sha.hexdigest()


def bare(records: Sequence[Record]) -> list[Record]:
    """The records as a picture holds them."""
    return [record.model_copy(update=_LEFT_OUT | {"environment": _device(record)}) for record in records]


def draw(records: Sequence[Record], picture: Path = PICTURE) -> None:
    """Draws the front page in a browser and writes the picture."""
    records = bare(records)
    with tempfile.TemporaryDirectory() as folder:
        page, digest = front_page(records, Path(folder))
        hold(_shot(page, Path(folder) / "shot.png"), records, digest, picture)


def hold(shot: Path, records: Sequence[Record], digest: str, picture: Path) -> None:
    """Writes the picture of a page with what it was drawn from."""
    held = PngInfo()
    held.add_text(RECORDS, json.dumps([json.loads(record.model_dump_json()) for record in records], separators=(",", ":")), zip=True)
    held.add_text(DIGEST, digest)
    with Image.open(shot) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(picture, pnginfo=held, optimize=True)


def main(arguments: Sequence[str]) -> None:
    from benchmark.store import Store

    if not arguments and not holds_records():
        sys.exit(f"docs/{PICTURE.name} holds no records yet: run `lobe demo`, then `make picture DEMO=lobe-demo/out`.")
    records = Store(Path(arguments[0])).all() if arguments else records_in()
    draw(records)
    print(f"{PICTURE.name}: {len(records)} records, {PICTURE.stat().st_size // 1024} KiB.")


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
