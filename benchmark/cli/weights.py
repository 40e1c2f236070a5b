"""`lobe weights`: files of backbone cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption
from benchmark.cli.show import err, out, plain, print_json, progress_bar, show_rows, word

weights_app = typer.Typer(help="Weights files of backbone cards: which are here, and how to get the others.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("get")
def weights_get(
    card: Annotated[str, typer.Argument(help="Backbone card, as `lobe list backbones` names it.")],
    file: Annotated[Path | None, typer.Option("--file", help="A file that you downloaded: checked, and copied into the cache.")] = None,
    cache: CacheOption = None,
    as_json: AsJson = False,
) -> None:
    """Fetches a card's weights file into the cache, after which the card goes by its name alone; or says how it is had by hand."""
    from benchmark.fetching.weights import get_weights
    from benchmark.resolve import cache_folder

    with progress_bar(f"{card} · weights", as_json) as step:
        got = get_weights(card, cache_folder(cache), file, step)
    if as_json:
        where = None if got.path is None else str(got.path)
        print_json({"card": got.name, "state": got.state, "path": where, "digest": got.digest, "steps": got.steps, "notes": got.notes})
        return
    for note in got.notes:
        err.print(f"[yellow]note:[/] {plain(note)}", soft_wrap=True)
    if got.path is None:
        out.print(f"{plain(got.name)} is had by hand:")
        for number, step_text in enumerate(got.steps, 1):
            out.print(f"  {number}. {plain(step_text)}", soft_wrap=True)
        return
    out.print(f"{plain(got.name)}: {got.state}, {plain(str(got.path))}", soft_wrap=True)
    out.print(f"Next: lobe check-backbone {plain(got.name)}{'' if cache is None else f' --cache {word(cache)}'}", soft_wrap=True)


@weights_app.command("list")
def weights_list(cache: CacheOption = None, as_json: AsJson = False) -> None:
    """Cards that have a weights file: whether it is here, where it comes from, and whether its digest is known."""
    from benchmark.encoders import kept_weights, naming
    from benchmark.resolve import cache_folder

    folder = cache_folder(cache)
    rows = []
    for card in registry.backbones().values():
        if naming.file_asked_for(card) is None:
            continue
        here = kept_weights.kept(card, folder)
        rows.append(
            {
                "card": card.name,
                "here": here is not None,
                "path": None if here is None else str(here),
                "from": kept_weights.way(card),
                "digest": card.digest or None,
                "file": card.weights,
                "licence": card.licence,
            }
        )
    show_rows(rows, as_json, ("card", "here", "from", "file", "licence"))
