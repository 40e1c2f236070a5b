"""`lobe pretrain`: a backbone made from radiographs and their reports, by a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DataOption
from benchmark.cli.show import err, out, plain, progress_bar

if TYPE_CHECKING:
    from benchmark.pretraining.loop import Step


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe: `lobe list recipes`.")],
    data: DataOption = [],  # noqa: B006
    to: Annotated[Path, typer.Option("--out", "-o", help="Folder for the backbones; the same call again goes on where it stopped.")] = Path(
        "lobe-backbones"
    ),
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="Pairs to show, instead of the recipe's: another backbone.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, order, views and sentences.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Makes a backbone by a recipe of `tasks/pretraining.yaml`, for `lobe run --backbone`."""
    from benchmark import registry, resolve
    from benchmark.pretraining.run import Telling, pretrain

    card = registry.recipe(recipe)
    if pairs is not None:
        card = card.model_copy(update={"budget": card.budget.model_copy(update={"pairs": pairs})})
    root = resolve.dataset_root(registry.dataset(card.pairs.dataset), resolve.data_roots(data))
    with contextlib.ExitStack() as bars:  # one after the other: a terminal shows one at a time
        read = bars.enter_context(progress_bar("images", False))
        shown: list[Callable[[int, int], None]] = []

        def stepped(step: Step, n_steps: int) -> None:
            if not shown:
                bars.close()
                shown.append(bars.enter_context(progress_bar("pairs", False)))
            shown[0](step.pairs, n_steps * card.budget.batch)

        def validated(step: Step, share: float) -> None:
            rate = step.pairs_here / max(step.seconds, 1e-9)
            err.print(f"step {step.number + 1:,}, loss {step.loss:.3f}, {rate:.0f} pairs/s: {_said(share)}")

        found = pretrain(card, root, to, seed, threads=threads, device_type=device, tell=Telling(read, stepped, validated))
    said = "lay there already" if found.was_there else "is made"
    out.print(f"{plain(card.title)}, seed {seed}, {said}: {_said(found.percentile)}")
    out.print(f"Next: lobe run --backbone {plain(str(found.card))} --task rsna-linear-frozen-100 --data DIR", soft_wrap=True)


def _said(share: float) -> str:
    return f"held-out images find their own report before {100 * share:.1f} % of the others (50 by chance)."
