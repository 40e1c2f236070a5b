"""`lobe panel`: the reference panel that headlines are measured by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, DataOption, OutOption, one_of
from benchmark.cli.run import end_dry_run, run_and_show
from benchmark.cli.show import err, out, plain, print_json, show_rows, word

panel_app = typer.Typer(help="The reference panel that headlines are measured by: measured once, then frozen.", no_args_is_help=True)
app.add_typer(panel_app, name="panel")

LineupOption = Annotated[str, typer.Option("--panel", help="Line-up of backbones: a card of backbones/panels.yaml.")]
SuiteOption = Annotated[str | None, typer.Option("--suite", help="Suite to measure. Default: the line-up's.")]
ProtocolOption = Annotated[str | None, typer.Option("--protocol", help="Default: the suite's.")]


@panel_app.command("run")
def panel_run(
    lineup: LineupOption = "lobe-v1",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder of the checkpoints that cards ask for, as CARD/FILE or FILE.")
    ] = None,
    suite: SuiteOption = None,
    data: DataOption = [],  # noqa: B006
    out_folder: OutOption = Path("lobe-panel"),
    cache: CacheOption = None,
    executor: Annotated[str, typer.Option("--executor", help="ray or inline.")] = "ray",
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster, like head:6379. Default: this machine.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda; part of a job's identity.")] = "auto",
    protocol: ProtocolOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Trial: at most N images per split; never frozen.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed jobs again.")] = False,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Without MLflow.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs and what they will take; compute nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measures the panel's backbones and the anchors of every table. The same command again goes on where it stopped."""
    from benchmark.api import Request, plan_jobs
    from benchmark.panels import backbones_of

    card = registry.lineup(lineup)
    request = Request(
        backbones=backbones_of(card, weights),
        suite=suite or card.suite,
        data=data,
        out=out_folder,
        cache=cache,
        executor=one_of("--executor", executor, ("ray", "inline")),
        address=address,
        device=one_of("--device", device, ("auto", "cpu", "cuda")),
        protocol=protocol,
        limit=limit,
        retry_failed=retry_failed,
        tracking=not no_tracking,
    )
    if dry_run:
        planned = plan_jobs(request, hashing=False)
        show_rows(_by_backbone(planned), as_json, ("backbone", "jobs", "stored"))
        end_dry_run(planned, as_json)
    run_and_show(request, as_json, f"lobe panel freeze {word(out_folder)} --version VERSION")


@panel_app.command("freeze")
def panel_freeze(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of `lobe panel run`.")],
    version: Annotated[str, typer.Option("--version", help="Name of the new panel: small letters, digits, dots and dashes.")],
    lineup: LineupOption = "lobe-v1",
    suite: SuiteOption = None,
    protocol: ProtocolOption = None,
    without: Annotated[list[str], typer.Option("--without", help="A row to leave out, by its name in tables; repeatable.")] = [],  # noqa: B006
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder of results, of your own with --include. Default: the repository's results/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Freezes median and spread of every reliable task from complete rows, as results/panels/VERSION.json; never over another."""
    from benchmark import panel_files
    from benchmark.panels import frozen

    card = registry.lineup(lineup)
    panel = frozen(folder, version, suite or card.suite, protocol=protocol, lineup=lineup, without=without)
    path = panel_files.write(panel, registry.content("results") if to is None else to)
    if as_json:
        print_json({"file": str(path), **panel.model_dump(mode="json")})
        return
    if not panel.lineup:
        err.print(f"[yellow]no line-up:[/] not every row is a backbone of {plain(lineup)}.", soft_wrap=True)
    for task, why in panel.left_out.items():
        err.print(f"[yellow]no scale:[/] {plain(task)}: {plain(why)}.", soft_wrap=True)
    marked = " of phantom images, no scale for real rows" if panel.phantom else ""
    out.print(f"Panel {plain(version)}{marked}: {len(panel.rows)} backbones, {len(panel.tasks)} tasks.")
    out.print(f"File: {plain(str(path))}", soft_wrap=True)


def _by_backbone(planned) -> list[dict[str, Any]]:
    """A row a backbone: a panel has thousands of jobs."""
    jobs = Counter(job.labels.backbone for job in planned.jobs)
    stored = Counter(job.labels.backbone for job in planned.jobs if job.key in planned.done)
    return [{"backbone": name, "jobs": n, "stored": stored[name]} for name, n in jobs.items()]
