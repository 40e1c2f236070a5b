"""A notebook as a page: its text and its code, without what a run printed."""

from __future__ import annotations

from pathlib import Path

from benchmark import json_files


def as_markdown(path: Path) -> str:
    """The cells of a notebook in their order, as Markdown; a sentence below its title says where to get the file."""
    cells = json_files.read(path)["cells"]
    texts = [("".join(cell["source"]).strip(), cell["cell_type"]) for cell in cells]
    (title, _, rest), *others = [(*text.partition("\n"),) for text, _ in texts[:1]] + texts[1:]
    origin = f"This page is the notebook `docs/notebooks/{path.name}` of the repository. `make verify` runs it from top to bottom."
    head = f"{title}\n\n{origin}\n{rest}"
    return "\n\n".join([head, *(text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in others)]) + "\n"
