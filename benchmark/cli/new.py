"""`lobe new`: files to start from, written from what is there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.show import out, plain, word
from benchmark.errors import UsageError
from benchmark.files import write_atomically, writing

new_app = typer.Typer(help="A commented file to start from.", no_args_is_help=True)
app.add_typer(new_app, name="new")


@new_app.command("backbone")
def new_backbone(file: Annotated[Path, typer.Argument(help="Python file to write.")] = Path("mine.py")) -> None:
    """Writes a backbone in Python to fill in, with every contract in its comments."""
    if file.exists():
        raise UsageError(f"{file} exists already: name another file.")
    with writing(file, "Name a file in a folder that is there."):
        write_atomically(file, (registry.content("backbones") / "template.py").read_bytes())
    out.print(f"Wrote {plain(str(file))}. Next: lobe check-backbone {word(file)}:build", soft_wrap=True)


@new_app.command("dataset")
def new_dataset(
    folder: Annotated[Path, typer.Argument(help="Folder with your images and their labels.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the dataset. Default: the folder's name.")] = None,
    classes: Annotated[str, typer.Option("--classes", help="Names of the classes, with commas between, in place of those found.")] = "",
    cards: Annotated[Path, typer.Option("--out", help="Folder of your own cards, for --include.")] = Path("lobe-cards"),
) -> None:
    """Looks at a folder of your own data and writes its cards: COCO, YOLO, masks, tables, captions."""
    from benchmark.scaffold.dataset import new_dataset as write

    written = write(folder, cards, name, [part.strip() for part in classes.split(",") if part.strip()])
    for file in written.files:
        out.print(f"Wrote {plain(str(file))}", soft_wrap=True)
    for sentence in written.guessed:
        out.print(f"  guessed: {plain(sentence)}", soft_wrap=True)
    for sentence in written.unknown:
        out.print(f"  [yellow]not known:[/] {plain(sentence)}", soft_wrap=True)
    if written.problem:
        out.print(f"  [red]not usable yet:[/] {plain(written.problem)}", soft_wrap=True)
    words = ["lobe", "--include", str(cards), "data", "verify", written.card.name, "--data", str(written.data)]
    out.print(f"Next: {plain(shlex.join(words))}", soft_wrap=True)
