"""How HTML pages are made: one jinja2 environment with escaping on, one way of writing files.

Everything a template prints is escaped; the only script data is JSON made safe for `<script>`. What stands on a page is decided in
`site` and `reproduce_pages`.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark.cards import DISCLAIMER
from benchmark.files import writing


@cache
def environment() -> Environment:
    """Templates of this package, with escaping always on and undefined names an error."""
    made = Environment(
        loader=PackageLoader("benchmark.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["disclaimer"] = DISCLAIMER
    return made


def write_page(path: Path, text: str) -> Path:
    """Writes a file whole or not at all, so that a reader never opens half a page.

    The disk is not waited for: a site has hundreds of files, and all of them can be made again.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, "Give an --out whose folder report may be written."):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text.encode())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                temporary.unlink()
    return path
