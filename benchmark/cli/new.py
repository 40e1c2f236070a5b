"""`lobe new`: files to start from, written from what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.show import out, plain
from benchmark.errors import UsageError

new_app = typer.Typer(help="A commented file to start from.", no_args_is_help=True)
app.add_typer(new_app, name="new")


@new_app.command("backbone")
def new_backbone(file: Annotated[Path, typer.Argument(help="Python file to write.")] = Path("mine.py")) -> None:
    """Writes a backbone in Python to fill in, with every contract in its comments."""
    if file.exists():
        raise UsageError(f"{file} exists already: name another file.")
    file.write_text((registry.content("backbones") / "template.py").read_text(encoding="utf-8"), encoding="utf-8")
    out.print(f"Wrote {plain(str(file))}. Next: lobe check-backbone {plain(str(file))}:build")


@new_app.command("dataset")
def new_dataset(folder: Annotated[Path, typer.Argument(help="Folder with your images and their labels.")]) -> None:
    """Looks at a folder of your own data and says what it holds."""
    from benchmark.scaffold.survey import survey

    found = survey(folder)
    for what in ("images", "tables", "documents", "texts", "others"):
        out.print(f"{what}: {len(getattr(found, what)):,}")
