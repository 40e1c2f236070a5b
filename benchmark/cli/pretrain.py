"""`lobe pretrain`: a backbone made from radiographs and their reports, by a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import CacheOption, DataOption, one_of
from benchmark.cli.show import err, out, plain, progress_bar, word
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.cards import PretrainingCard
    from benchmark.execute.pretrain import Call
    from benchmark.pretraining.loop import Step
    from benchmark.tracking.tracker import End, Tracker


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
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that share each batch, on Ray: a GPU each with cuda, else --threads cores.")
    ] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Ray cluster for --workers, like head:6379. Its nodes see --data and --out.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Pairs of another dataset than the recipe's: one whose reader gives texts, or your own.")
    ] = None,
    cache: CacheOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Says what the recipe asks for and whether it is here; makes nothing.")
    ] = False,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Without MLflow.")] = False,
) -> None:
    """Makes a backbone by a recipe of `tasks/pretraining.yaml`, for `lobe run --backbone`."""
    from benchmark import registry, resolve
    from benchmark.execute.pretrain import Call, start
    from benchmark.pretraining.run import Telling, require_possible
    from benchmark.tracking.tracker import Tracker

    if address is not None and workers == 1:
        raise UsageError("--address is for several processes: add --workers.")
    one_of("--device", device, ("cpu", "cuda"))
    card = registry.recipe(recipe)
    if pairs is not None:
        card = card.model_copy(update={"budget": card.budget.model_copy(update={"pairs": pairs})})
    if dataset is not None and dataset != card.pairs.dataset:
        other = {"name": f"{card.name}-{dataset}", "title": f"{card.title}, on {registry.dataset(dataset).title}"}
        card = card.model_copy(update={**other, "pairs": card.pairs.model_copy(update={"dataset": dataset})})
    if dry_run:
        _tell_plan(card)
        require_possible(card)
        out.print("All is here that the recipe names but its pairs.")
        return
    root = resolve.dataset_root(registry.dataset(card.pairs.dataset), resolve.data_roots(data))
    call = Call(card, root, to.resolve(), seed, threads, device, resolve.cache_folder(cache))
    with contextlib.ExitStack() as open_:  # bars one after the other: a terminal shows one at a time
        bars = open_.enter_context(contextlib.ExitStack())
        read = bars.enter_context(progress_bar("images", False))
        shown: list[Callable[[int, int], None]] = []
        tracker = None if no_tracking else open_.enter_context(_tracked(call, Tracker))

        def stepped(step: Step, n_steps: int) -> None:
            if not shown:
                bars.close()
                shown.append(open_.enter_context(progress_bar("pairs", False)))
            shown[0](step.pairs, n_steps * card.budget.batch)
            if tracker:
                tracker.value(step.number, {**step.losses, "loss": step.loss, "rate": step.rate, "pairs_per_s": _rate(step)})

        def validated(step: Step, share: float) -> None:
            err.print(f"step {step.number + 1:,}, loss {step.loss:.3f}, {_rate(step):.0f} pairs/s: {_said(share)}")
            if tracker:
                tracker.value(step.number, {"percentile": share})

        found = start(call, workers, Telling(read, stepped, validated), address)
    said = "lay there already" if found.was_there else "is made"
    out.print(f"{plain(card.title)}, seed {seed}, {said}: {_said(found.percentile)}")
    out.print(f"Next: lobe run --backbone {word(found.card)} --task rsna-linear-frozen-100 --data DIR", soft_wrap=True)


def _tell_plan(card: PretrainingCard) -> None:
    """What the recipe says, and what of it is not verified."""
    budget, optimiser = card.budget, card.optimiser
    out.print(f"{plain(card.title)}: {card.method}, {card.protocol}, on {card.pairs.dataset}")
    out.print(f"  image {card.image.model}, {card.image.size} px, {card.image.augmentation}; text {card.text.hub or 'of the reports'}")
    out.print(f"  {budget.pairs:,} pairs, {budget.batch} a step, {budget.group} together; {optimiser.name}, rate {optimiser.rate:g}")
    if card.source:
        out.print(f"  source: {plain(card.source)}", soft_wrap=True)
    for one in card.unverified:
        out.print(f"  not verified: {plain(one)}", soft_wrap=True)


@contextlib.contextmanager
def _tracked(call: Call, tracker_of: type[Tracker]) -> Iterator[Tracker]:
    """A run in MLflow, which ends as the pretraining does."""
    card = call.card
    parameters = {"recipe": card.name, "version": card.version, "method": card.method, "seed": call.seed, "threads": call.threads}
    parameters |= card.budget.model_dump(mode="json") | {f"optimiser_{k}": v for k, v in card.optimiser.model_dump(mode="json").items()}
    call.out.mkdir(parents=True, exist_ok=True)
    tracker = tracker_of(call.out, f"{card.title}, seed {call.seed}", {name: str(value) for name, value in parameters.items()})
    status: End = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.close(status)
        if tracker.problem:
            err.print(f"[yellow]tracking:[/] {plain(tracker.problem)}", soft_wrap=True)


def _rate(step: Step) -> float:
    return step.pairs_here / max(step.seconds, 1e-9)


def _said(share: float) -> str:
    return f"held-out images find their own report before {100 * share:.1f} % of the others (50 by chance)."
