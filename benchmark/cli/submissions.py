"""Results that go from one person to another: `lobe submit`, `lobe validate`, `lobe accept`, `lobe withdraw`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, DataOption
from benchmark.cli.show import err, out, plain, print_json, progress_bar, word

if TYPE_CHECKING:
    from benchmark.submission.validate import Validated

ArchiveArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Archive that `lobe submit` wrote.")]
PhantomOption = Annotated[bool, typer.Option("--allow-phantom", help="Takes generated data: a rehearsal, which no leaderboard takes.")]
RerunOption = Annotated[Path | None, typer.Option("--rerun", help="Output folder in which the same jobs were trained again.")]
ToOption = Annotated[Path | None, typer.Option("--to", help="Folder of submissions. Default: those of LOBE itself.")]
WhyOption = Annotated[str, typer.Option("--why", help="Reason, for the public history.")]


@app.command()
def submit(
    folder: Annotated[Path, typer.Option("--out", help="Output folder of a run.")] = Path("lobe-out"),
    to: Annotated[Path, typer.Option("--to", help="Archive to write.")] = Path("lobe-submission.zip"),
    suite: Annotated[str | None, typer.Option("--suite", help="Its tasks alone. Default: the suite that was run.")] = None,
    backbones: Annotated[list[str], typer.Option("--backbone", help="These alone, as tables name them; repeatable.")] = [],  # noqa: B006
    contact: Annotated[str, typer.Option("--contact", help="Who sends it; public.")] = "",
    statistics_only: Annotated[
        bool, typer.Option("--statistics-only", help="Leaves predictions at home, most of the bytes: nobody can score them again.")
    ] = False,
    allow_phantom: PhantomOption = False,
    as_json: AsJson = False,
) -> None:
    """Packs results for the leaderboard: records, statistics and, where the data's agreement allows, predictions. No images."""
    from benchmark.submission.pack import pack

    with progress_bar("packing", as_json) as progress:
        packed = pack(
            folder,
            to,
            suite=suite,
            backbones=backbones,
            contact=contact,
            allow_phantom=allow_phantom,
            with_predictions=not statistics_only,
            progress=progress,
        )
    if as_json:
        left_out = [{"key": key, "why": why} for key, why in packed.left_out]
        print_json(
            {
                "file": str(packed.file),
                "id": packed.id,
                "bytes": packed.n_bytes,
                "records": packed.n_records,
                "suite": packed.manifest.suite,
                "phantom": packed.manifest.phantom,
                "pseudonymised": list(packed.pseudonymised),
                "left_out": left_out,
                "missing": list(packed.missing),
            }
        )
        return
    for key, why in packed.left_out:
        err.print(f"[yellow]left out:[/] {key}: {plain(why)}", soft_wrap=True)
    for sentence in packed.missing:
        err.print(f"[yellow]incomplete:[/] {plain(sentence)}", soft_wrap=True)
    if packed.pseudonymised:
        out.print(f"Of {', '.join(packed.pseudonymised)}: statistics under pseudonyms, no predictions and no names.", soft_wrap=True)
    mark = ", generated data: a rehearsal" if packed.manifest.phantom else ""
    out.print(f"{plain(str(packed.file))}: submission {packed.id}, {packed.n_records:,} records, {packed.n_bytes / 1e6:,.1f} MB{mark}.")
    allowed = " --allow-phantom" if packed.manifest.phantom else ""
    out.print(f"Look at it as others will: lobe validate {word(packed.file)}{allowed}", soft_wrap=True)


@app.command()
def validate(
    file: ArchiveArgument,
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    rerun: RerunOption = None,
    allow_phantom: PhantomOption = False,
    allow_incomplete: Annotated[bool, typer.Option("--incomplete", help="What is missing is no reason to refuse.")] = False,
    as_json: AsJson = False,
) -> None:
    """Looks at an archive of somebody else: recomputes its metrics, and with --data scores its predictions again. Runs nothing of it."""
    from benchmark.submission.validate import validate as validated

    with progress_bar("validating", as_json) as progress:
        found = validated(file, data=data, cache=cache, rerun=rerun, allow_phantom=allow_phantom, progress=progress)
    refused = bool(found.faults or (found.missing and not allow_incomplete))
    if as_json:
        print_json({**_document(found), "ok": not refused})
    else:
        _show(found)
        verdict = "[red]refused[/]" if refused else f"[green]valid[/], level [bold]{found.trust}[/]"
        out.print(f"Submission {found.id}: {verdict}; {found.checked}.")
    if refused:
        raise typer.Exit(1)


@app.command()
def accept(
    file: ArchiveArgument,
    to: ToOption = None,
    why: WhyOption = "submitted",
    corrects: Annotated[str | None, typer.Option("--corrects", help="Id of a submission that was wrong, whose place it takes.")] = None,
    supersedes: Annotated[str | None, typer.Option("--supersedes", help="Id of a submission whose place it takes.")] = None,
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    rerun: RerunOption = None,
    allow_incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Accepts it without all tasks, runs and searches; what is incomplete has no rank.")
    ] = False,
    allow_phantom: PhantomOption = False,
    as_json: AsJson = False,
) -> None:
    """Validates an archive and adds it to a folder of submissions, with a line in the public history."""
    from benchmark.submission import accept as accepting
    from benchmark.submission.shown import default_folder

    if corrects and supersedes:
        raise typer.BadParameter("a submission takes the place of one: give --corrects or --supersedes.", param_hint="--corrects")
    replaces: accepting.Replaces | None = ("corrected", corrects) if corrects else ("superseded", supersedes) if supersedes else None
    with progress_bar("validating", as_json) as progress:
        done = accepting.accept(
            file,
            to or default_folder(),
            why=why,
            replaces=replaces,
            data=data,
            cache=cache,
            rerun=rerun,
            allow_incomplete=allow_incomplete,
            allow_phantom=allow_phantom,
            progress=progress,
        )
    if as_json:
        print_json(
            {**_document(done.validated), "file": str(done.file), "history": [entry.model_dump(mode="json") for entry in done.entries]}
        )
        return
    _show(done.validated)
    accepted = done.entries[0]
    out.print(f"Accepted {accepted.id} at level [bold]{accepted.trust}[/]; {accepted.checked}.")
    if accepted.incomplete:
        out.print(f"Without all runs and searches, and so without a rank: {', '.join(accepted.incomplete)}.", soft_wrap=True)
    for entry in done.entries[1:]:
        out.print(f"{entry.id} is {entry.what}: {plain(entry.why)}")
    out.print(f"It lies in {plain(str(done.file))}. Show it: lobe report --submissions {word(done.file.parent)}", soft_wrap=True)


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of an accepted submission, or how it begins.")],
    why: WhyOption,
    to: ToOption = None,
    as_json: AsJson = False,
) -> None:
    """Takes a submission off the leaderboard; archive and history stay."""
    from benchmark.submission.accept import withdraw as withdrawn
    from benchmark.submission.shown import default_folder

    entry = withdrawn(name, to or default_folder(), why=why)
    if as_json:
        print_json(entry.model_dump(mode="json"))
    else:
        out.print(f"Submission {entry.id} is withdrawn: {plain(entry.why)}", soft_wrap=True)


def _show(found: Validated) -> None:
    for sentence in found.notes:
        out.print(f"[dim]note:[/] {plain(sentence)}", soft_wrap=True)
    for sentence in found.missing:
        err.print(f"[yellow]incomplete:[/] {plain(sentence)}", soft_wrap=True)
    for sentence in found.faults:
        err.print(f"[red]refused:[/] {plain(sentence)}", soft_wrap=True)


def _document(found: Validated) -> dict[str, Any]:
    """What a workflow reads."""
    return {
        "id": found.id,
        "sha256": found.sha256,
        "ok": found.ok,
        "trust": found.trust.value,
        "levels": {task: level.value for task, level in found.levels.items()},
        "faults": list(found.faults),
        "missing": list(found.missing),
        "incomplete": list(found.incomplete),
        "notes": list(found.notes),
        "records": found.n_records,
        "recomputed": found.n_recomputed,
        "rescored": found.n_rescored,
        "rerun": found.n_rerun,
        "suite": found.manifest.suite,
        "backbones": list(found.manifest.backbones),
        "phantom": found.manifest.phantom,
    }
