"""Where the site's pages and data lie: an address for every task and backbone, from its own name alone, so that a link that was shared
still holds when other results come or go.
"""

from __future__ import annotations

import hashlib

from benchmark.report import escape
from benchmark.report.rows import Row

DATA, ASSETS, TABLES, TASKS, BACKBONES, OVERLAYS = "data", "assets", "tables", "tasks", "backbones", "overlays"
FOLDERS = (DATA, ASSETS, TABLES, TASKS, BACKBONES, OVERLAYS)


def name_of(text: str) -> str:
    """A file name for any text; eight digits of its hash follow where the slug is not the text itself."""
    slug = escape.slug(text)
    return slug if slug == text else f"{slug[:50]}-{_hash(text)}"


def task_page(task: str) -> str:
    return f"{TASKS}/{name_of(task)}.html"


def backbone_page(backbone: str) -> str:
    """Of a backbone by the name in its records; its variants share a page."""
    return f"{BACKBONES}/{name_of(backbone)}.html"


def row_id(row: Row) -> str:
    """HTML id of a row on the page of its backbone, and of its task: the same on both."""
    place = (row.backbone, row.variant, row.task, row.split, row.protocol, row.scale, str(row.phantom))
    return f"row-{escape.slug(row.task)}-{_hash(chr(10).join(place))}"


def section_id(row: Row) -> str:
    """HTML id of what stands together on the page of a task: one split, protocol, scale and kind of data."""
    place = (row.task, row.split, row.protocol, row.scale, str(row.phantom), row.metric)
    return f"at-{_hash(chr(10).join(place))}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
