"""Data beside the pages: classic scripts that register themselves, since a browser loads neither JSON nor modules from `file://`.

A page asks for a name when its reader looks at what it shows; the script of that name calls `lobe.register`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.report.addresses import DATA
from benchmark.report.pages import write_page

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"}


def script_json(value: Any) -> str:
    """JSON that is safe inside and outside of `<script>`: ASCII, without `<`, `>`, `&` and `'`.

    Raises:
        ValueError: a number is not finite: JSON has none, and a page would show it as if it were one.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return text


def write(report: Path, name: str, value: Any) -> Path:
    """Writes `data/<name>.js`.

    Args:
        report: the folder of the site.
        name: as a page asks for it: a file name below `data/` without its ending.
        value: plain values.
    """
    return write_page(report / DATA / f"{name}.js", f"lobe.register({script_json(name)},{script_json(value)});\n")
