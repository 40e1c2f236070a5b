"""`lobe data`: datasets on this machine."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import private, registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, DataOption, SplitsOption
from benchmark.cli.show import err, out, plain, print_json, progress_bar, show_rows, word
from benchmark.errors import UsageError
from benchmark.files import write_atomically, writing

data_app = typer.Typer(help="Datasets on this machine: get, status, verify, prepare, and phantom samples.", no_args_is_help=True)
app.add_typer(data_app, name="data")
SHOWN_PROBLEMS = 20


@data_app.command("sample")
def data_sample(
    folder: Annotated[Path, typer.Argument(help="Where to write; one folder per dataset is made inside.")],
    dataset: Annotated[list[str], typer.Option("--dataset", help="Dataset to imitate; repeatable. Default: all that have one.")] = [],  # noqa: B006
    patients: Annotated[int, typer.Option("--patients", min=5, help="Generated patients per dataset.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes; the bytes do not depend on it.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Writes phantom corpora: generated radiographs in exactly the public on-disk formats."""
    from benchmark.phantom.corpus import CorpusPlan, write_corpus, writers

    names = dataset or writers()
    rows = []
    for name in names:
        card = registry.dataset(name)
        with progress_bar(f"{name} phantom", as_json) as step:
            summary = write_corpus(
                CorpusPlan(dataset=name, n_patients=patients, seed=seed), folder / card.folder, progress=step, workers=workers
            )
        rows.append({"dataset": name, "folder": str(folder / card.folder), **summary.counts})
    show_rows(rows, as_json, tuple(rows[0]))
    if not as_json:
        task = _trial_task(names)
        if task is None:
            out.print(f"Next: lobe data verify --data {word(folder)}", soft_wrap=True)
        else:
            run = "lobe run --backbone torchvision:resnet18"
            out.print(f"Next: {run} --task {task} --data {word(folder)} --limit 32 --seeds 1", soft_wrap=True)


@data_app.command("get")
def data_get(
    names: Annotated[list[str], typer.Argument(help="Datasets, as `lobe list datasets` names them.")],
    data: Annotated[Path, typer.Option("--data", envvar="LOBE_DATA", help="Root folder; each release gets its own inside.")],
    keep: Annotated[bool, typer.Option("--keep-archives", help="Leave downloaded archives in .lobe-get.")] = False,
    as_json: AsJson = False,
) -> None:
    """Downloads what may be had without an account or a signature, and lists the steps for what needs one. Run again, it goes on."""
    from benchmark.fetching.releases import get

    _require_root(data)
    found = get(names, data.expanduser().resolve(), lambda title: progress_bar(title, as_json), keep)
    if as_json:
        print_json([{**vars(one), "folder": str(one.folder)} for one in found])
        return
    for one in found:
        for note in one.notes:
            err.print(f"[yellow]note:[/] {plain(note)}", soft_wrap=True)
        if one.state == "fetched":
            out.print(f"{one.name}: {one.n_files:,} files in {plain(str(one.folder))}", soft_wrap=True)
        if one.steps:
            out.print(f"{one.name} {'also needs' if one.state == 'fetched' else 'is had by hand'}:")
        for number, step in enumerate(one.steps, 1):
            out.print(f"  {number}. {plain(step)}", soft_wrap=True)
    out.print(f"Next: lobe data verify {' '.join(names)} --data {word(data)}", soft_wrap=True)


@data_app.command("status")
def data_status(data: DataOption = [], cache: CacheOption = None, as_json: AsJson = False) -> None:  # noqa: B006
    """Which datasets are there, which release was recognised, and how much of each is cached."""
    from benchmark.data import status

    rows = status(data, cache)
    show_rows(rows, as_json, ("dataset", "state", "release", "phantom", "images", "cached_bytes", "folder"))


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; default: all that are there.")] = None,
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    odd: Annotated[Path | None, typer.Option("--odd", help="Of your own data: a CSV file to write with every odd place, by name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compares files, counts, columns and split digests with the card, and counts the patients that splits share."""
    from benchmark.data import verify

    results = verify(names or [], data, splits)
    if odd is not None:
        _write_odd(odd, names or [], data)
    if as_json:
        print_json([_verification(v) for v in results])
    else:
        for verification in results:
            _show_verification(verification)
    if not all(v.ok for v in results):
        raise typer.Exit(1)


@data_app.command("prepare")
def data_prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; default: all that are there.")] = None,
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 2,
    size: Annotated[int, typer.Option("--size", min=32, help="Pixels of the frame: 512 for GLoRIA's segmentation tasks.")] = 224,
    as_json: AsJson = False,
) -> None:
    """Decodes every image once into the cache. Nothing is ever written into a data folder."""
    from benchmark.data import prepare

    rows = prepare(names or [], data, cache, workers, lambda title: progress_bar(title, as_json), size)
    show_rows(rows, as_json, ("dataset", "images", "unreadable", "bytes", "cache"))
    for note in (note for row in rows for note in row["notes"]):
        err.print(f"[yellow]note:[/] {plain(note)}", soft_wrap=True)
    bad = [sentence for row in rows for sentence in row["problems"]]
    for sentence in bad[:SHOWN_PROBLEMS]:
        err.print(plain(sentence), soft_wrap=True)
    if len(bad) > SHOWN_PROBLEMS:
        err.print(f"And {len(bad) - SHOWN_PROBLEMS:,} more; --json lists all {len(bad):,}.")
    if bad:
        raise typer.Exit(1)


def _require_root(data: Path) -> None:
    """Releases are put below one folder: a file is none, and NAME=PATH, which other verbs read, names a release's own."""
    name, equals, _ = str(data).partition("=")
    root = data.expanduser()
    if root.exists() and not root.is_dir():
        raise UsageError(f"--data {data} is a file. Name the folder below which each release gets its own.")
    if equals and name in registry.datasets() and not root.exists():
        raise UsageError(
            f"--data {data}: `lobe data get` takes the folder above, and makes {registry.dataset(name).folder} in it. Give --data DIR."
        )


def _trial_task(datasets: Sequence[str]) -> str | None:
    """A quick task on one of the datasets, RSNA's where it is among them; None where no linear head learns from any."""
    if "rsna" in datasets:
        return "rsna-linear-frozen-100"
    quick = [card for card in registry.tasks().values() if card.head == "linear" and card.encoder.value == "frozen"]
    return next((card.id for card in quick if card.dataset in datasets and card.fraction == 1), None)


def _write_odd(file: Path, names: list[str], data: list[str]) -> None:
    """A private file: it names images, also those of data that may not be passed on."""
    from benchmark.data import odd_places

    text = io.StringIO()
    table = csv.DictWriter(text, ("dataset", "what", "where"), lineterminator="\n")
    table.writeheader()
    table.writerows(odd_places(names, data))
    with writing(file, "Name another file with --odd."):
        write_atomically(file, text.getvalue().encode(), opener=private.opener)
    err.print(f"Wrote {plain(str(file))}.", soft_wrap=True)


def _verification(verification) -> dict[str, Any]:
    checks = [{"what": c.what, "expected": c.expected, "found": c.found, "verdict": c.verdict, "hint": c.hint} for c in verification.checks]
    return {
        "dataset": verification.dataset,
        "release": verification.release,
        "phantom": verification.phantom,
        "partial": verification.partial,
        "ok": verification.ok,
        "checks": checks,
    }


def _show_verification(verification) -> None:
    own = registry.dataset(verification.dataset).own is not None
    kind = "phantom" if verification.phantom else "never ranked" if verification.partial else "not checked" if own else "public release"
    out.print(
        f"[bold]{verification.dataset}[/] · {plain(verification.release)} · {kind} · {'ok' if verification.ok else '[red]differs[/]'}"
    )
    show_rows(_verification(verification)["checks"], False, ("verdict", "what", "expected", "found", "hint"))
