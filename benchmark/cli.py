"""The command `lobe`: words, bars and tables around `benchmark.api`.

Thin on purpose, and free of torch, Ray and MLflow until a verb needs them.

Exit codes: 0 all good; 1 some jobs failed or it was stopped (Ctrl-C, SIGTERM), the rest is stored; 2 nothing could start, or what it ran on
is lost (the cluster's head, the disk), and what was done before is stored.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark import registry, stopping, terminal
from benchmark.errors import LobeError, UsageError

app = typer.Typer(
    help="LOBE, the LOcalized BEnchmark: how good is a chest X-ray backbone at saying where a finding is?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
list_app = typer.Typer(help="What there is: only what runs is listed.", no_args_is_help=True)
data_app = typer.Typer(help="Datasets on this machine: status, verify, prepare, and phantom samples.", no_args_is_help=True)
new_app = typer.Typer(help="A commented file to start from.", no_args_is_help=True)
app.add_typer(list_app, name="list")
app.add_typer(new_app, name="new")
app.add_typer(data_app, name="data")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
DataOption = Annotated[
    list[str], typer.Option("--data", help="Root folder with one folder per dataset, or NAME=PATH. Default: $LOBE_DATA.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Output folder: records, predictions, tracking, report.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="lovt, patient-disjoint or size-matched. Default: the task card's.")]
SplitsOption = Annotated[
    Path | None, typer.Option("--splits", help="Folder with split lists in LoVT's format, one sub-folder per dataset, instead of a rule.")
]
ContainerOption = Annotated[
    str | None, typer.Option("--container", help="Which set of weights, in a file that holds several: state_dict_ema, teacher, ...")
]
LayoutOption = Annotated[str | None, typer.Option("--layout", help="How the weights file names its tensors, like prefix:encoder_q.")]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Folder of caches. Default: $LOBE_CACHE or the user's cache folder.")]

SHOWN_PROBLEMS = 20
_TYPER_INTERRUPTED = 130  # the exit code into which Typer turns a KeyboardInterrupt, without a word

out = Console(highlight=False, width=terminal.width_of(sys.stdout))
err = Console(stderr=True, highlight=False, width=terminal.width_of(sys.stderr))


def main() -> None:
    """The verb: prints a LobeError as its sentence and exits with 2; anything else is a bug and keeps its traceback."""
    try:
        stopping.hear()
        terminal.prepare()
        try:
            app(standalone_mode=True)
        finally:
            terminal.settle()
    except KeyboardInterrupt:
        stopping.end()
    except SystemExit as ended:
        if ended.code == _TYPER_INTERRUPTED:
            stopping.end()
        raise
    except Exception as error:
        if stopping.was_asked():  # what broke is what was interrupted
            stopping.end()
        if not isinstance(error, LobeError):
            raise
        err.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
        sys.exit(2)


@app.callback()
def _options(
    include: Annotated[list[Path], typer.Option("--include", help="Folder with your own tasks/, datasets/, backbones/ cards.")] = [],  # noqa: B006
) -> None:
    for folder in include:
        registry.include(folder)
    if include:
        from benchmark import task_rules

        task_rules.require_included()


# ------------------------------------------------------------------------------------------------------------------- listing


@list_app.command("tasks")
def list_tasks(
    suite: Annotated[str | None, typer.Option("--suite", help="Only this suite's tasks.")] = None, as_json: AsJson = False
) -> None:
    """Tasks, with dataset, head, labels and reported metric."""
    names = registry.suite(suite).tasks if suite else tuple(registry.tasks())
    suites = {name: [s.name for s in registry.suites().values() if name in s.tasks] for name in names}
    rows = [
        {
            "id": card.id,
            "title": card.title,
            "dataset": card.dataset,
            "head": card.head,
            "encoder": card.encoder.value,
            "labels_percent": card.fraction * 100,
            "metric": card.report,
            "runs": card.runs,
            "training_runs": card.runs + (len(card.recipe.grid) if len(card.recipe.grid) > 1 else 0),
            "suites": suites[name],
            "protocols": list(card.protocols),
            "version": card.version,
            "published": None if card.published is None else list(card.published),
            "recipe_of": card.parent,
            "custom": registry.is_custom(card.id, "tasks"),
        }
        for name, card in ((name, registry.task(name)) for name in names)
    ]
    _show(rows, as_json, ("id", "title", "metric", "runs", "training_runs", "suites"))


@list_app.command("suites")
def list_suites(as_json: AsJson = False) -> None:
    """Suites: named groups of tasks."""
    rows = [
        {
            "name": s.name,
            "title": s.title,
            "tasks": len(s.tasks),
            "protocol": s.default_protocol,
            "description": s.description,
            "custom": registry.is_custom(s.name, "suites"),
        }
        for s in registry.suites().values()
    ]
    _show(rows, as_json, ("name", "title", "tasks", "protocol", "description"))


@list_app.command("datasets")
def list_datasets(as_json: AsJson = False) -> None:
    """Datasets, with licence and what may be redistributed."""
    rows = [
        {
            "name": d.name,
            "title": d.title,
            "images": d.expected.get("images"),
            "classes": list(d.classes),
            "targets": list(d.targets),
            "licence": d.licence,
            "redistribution": d.redistribution,
            "source": d.source,
            "notes": d.notes,
            "custom": registry.is_custom(d.name, "datasets"),
        }
        for d in registry.datasets().values()
    ]
    _show(rows, as_json, ("name", "title", "images", "targets", "licence"))


@list_app.command("backbones")
def list_backbones(as_json: AsJson = False) -> None:
    """Backbone cards, and backbones of installed packages. Others go by name: torchvision:resnet50, timm:resnet50@a1_in1k, hf:FOLDER."""
    from benchmark.encoders.naming import entry_points

    rows = [
        {
            "name": b.name,
            "title": b.title,
            "family": b.family,
            "model": b.model,
            "weights": b.weights or "random",
            "status": b.status,
            "paper": b.paper,
            "origin": b.origin,
            "licence": b.licence,
            "intensity": b.intensity,
            "custom": registry.is_custom(b.name, "backbones"),
        }
        for b in registry.backbones().values()
    ]
    installed = {"title": "", "family": "entry point", "weights": "its own", "status": "unverified", "custom": True}
    rows += [{"name": name, "model": where.rpartition(":")[2], **installed} for name, where in entry_points().items()]
    _show(rows, as_json, ("name", "title", "family", "model", "weights", "status"))


@list_app.command("protocols")
def list_protocols(as_json: AsJson = False) -> None:
    """Protocols: rules under which rows may be compared, each with its switches."""
    rows = [
        {"name": rules.name, "title": rules.title, "statistics": rules.statistics, "equalise": rules.equalise}
        | rules.switches.model_dump()
        | {"custom": registry.is_custom(rules.name, "protocols")}
        for rules in registry.protocols().values()
    ]
    _show(rows, as_json, ("name", "title", "statistics", "equalise"))


@list_app.command("prompts")
def list_prompts(as_json: AsJson = False) -> None:
    """Sets of prompts for tasks that ask in words, with their source."""
    rows = [
        {
            "name": p.name,
            "title": p.title,
            "classes": list(p.classes),
            "templates": len(p.templates),
            "source": p.source,
            "custom": registry.is_custom(p.name, "prompts"),
        }
        for p in registry.prompts().values()
    ]
    _show(rows, as_json, ("name", "title", "classes", "templates", "source"))


# ---------------------------------------------------------------------------------------------------------------------- data


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
    from benchmark.phantom.corpus import Plan, write_corpus, writers

    names = dataset or writers()
    rows = []
    for name in names:
        card = registry.dataset(name)
        with _bar(f"{name} phantom", as_json) as step:
            summary = write_corpus(Plan(dataset=name, n_patients=patients, seed=seed), folder / card.folder, progress=step, workers=workers)
        rows.append({"dataset": name, "folder": str(folder / card.folder), **summary.counts})
    _show(rows, as_json, tuple(rows[0]))
    if not as_json:
        out.print(f"Next: lobe run --backbone torchvision:resnet18 --task rsna-linear-frozen-100 --data {folder} --limit 32 --seeds 1")


@data_app.command("status")
def data_status(data: DataOption = [], cache: CacheOption = None, as_json: AsJson = False) -> None:  # noqa: B006
    """Which datasets are there, which release was recognised, and how much of each is cached."""
    from benchmark.data import status

    rows = status(data, cache)
    _show(rows, as_json, ("dataset", "state", "release", "phantom", "images", "cached_bytes", "folder"))


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; default: all that are there.")] = None,
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    as_json: AsJson = False,
) -> None:
    """Compares files, counts, columns and split digests with the card, and counts the patients that splits share."""
    from benchmark.data import verify

    results = verify(names or [], data, splits)
    if as_json:
        _print_json([_verification(v) for v in results])
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

    rows = prepare(names or [], data, cache, workers, lambda title: _bar(title, as_json), size)
    _show(rows, as_json, ("dataset", "images", "unreadable", "bytes", "cache"))
    for note in (note for row in rows for note in row["notes"]):
        err.print(f"[yellow]note:[/] {_plain(note)}", soft_wrap=True)
    bad = [sentence for row in rows for sentence in row["problems"]]
    for sentence in bad[:SHOWN_PROBLEMS]:
        err.print(_plain(sentence), soft_wrap=True)
    if len(bad) > SHOWN_PROBLEMS:
        err.print(f"And {len(bad) - SHOWN_PROBLEMS:,} more; --json lists all {len(bad):,}.")
    if bad:
        raise typer.Exit(1)


# ----------------------------------------------------------------------------------------------------------------------- run


@app.command()
def run(
    backbone: Annotated[
        list[str], typer.Option("--backbone", "-b", help="SOURCE:MODEL[@WEIGHTS], CARD[@FILE] or file.py:function; repeatable.")
    ],
    container: ContainerOption = None,
    layout: LayoutOption = None,
    suite: Annotated[str | None, typer.Option("--suite", help="All tasks of a suite.")] = None,
    task: Annotated[list[str], typer.Option("--task", "-t", help="One task; repeatable.")] = [],  # noqa: B006
    data: DataOption = [],  # noqa: B006
    out_folder: OutOption = Path("lobe-out"),
    cache: CacheOption = None,
    cache_budget: Annotated[
        str | None, typer.Option("--cache-budget", help="Memory of a node for frozen features, like 4GB; beyond it disk. Default: 2GiB.")
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help="ray or inline.")] = "ray",
    address: Annotated[
        str | None, typer.Option("--address", help="Ray cluster, like head:6379, or auto for the one running here. Default: this machine.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu or cuda; part of a job's identity. auto: cuda if a node of the cluster has a GPU.")
    ] = "auto",
    protocol: Annotated[str | None, typer.Option("--protocol", help="published or corrected.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Final runs per task. Default: the card's (5).")] = None,
    split: SplitOption = None,
    splits: SplitsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Trial: at most N images per split; never ranked.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="full, or smoke: a small step budget; never ranked.")] = "full",
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of a job; part of its identity.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed jobs again.")] = False,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Without MLflow.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Folder all nodes see: long jobs go on from there after a loss.")
    ] = None,
    workers_per_job: Annotated[
        int, typer.Option("--workers-per-job", min=1, help="Devices of one node that share the batches of a fine-tuning job.")
    ] = 1,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile what trains: minutes more when a job begins; docs/performance.md says what for."),
    ] = False,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Of jobs whose process was lost.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", help="Hand it to the cluster at --address and return; see lobe status.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs and what they wait for; compute nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List the files that travel to a cluster.")] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluates backbones. Running the same command again resumes; when all is done it prints the finished table."""
    from benchmark.api import Request, costs_of, evaluate, forecast, plan_jobs
    from benchmark.encoders.naming import with_choices

    request = Request(
        backbones=with_choices(backbone, container=container, layout=layout),
        tasks=task,
        suite=suite,
        data=data,
        out=out_folder,
        cache=cache,
        cache_budget=cache_budget,
        executor=_choice("--executor", executor, ("ray", "inline")),
        address=address,
        device=_choice("--device", device, ("auto", "cpu", "cuda")),
        protocol=protocol,
        runs=seeds,
        limit=limit,
        profile=_choice("--profile", profile, ("full", "smoke")),
        threads=threads,
        split=split,
        splits=splits,
        retry_failed=retry_failed,
        tracking=not no_tracking,
        checkpoints=checkpoints,
        workers_per_job=workers_per_job,
        compiled=compiled,
        retries=retries,
        verbose=verbose,
    )
    if detach:
        _detach(request, no_tracking, as_json)
        return
    if dry_run:
        planned = plan_jobs(request, hashing=False)
        rows = [_job_row(job, planned) for job in planned.jobs]
        _show(rows, as_json, ("task", "split", "backbone", "role", "run", "learning_rate", "waits_for", "state", "key"))
        _show_problems(planned.problems)
        if not as_json:
            out.print(_plain(planned.equipment.sentence), soft_wrap=True)
            for text in planned.warnings:
                err.print(f"[yellow]note:[/] {_plain(text)}", soft_wrap=True)
            out.print(_dry_summary(planned))
            _show_unhashed(planned)
            if planned.todo:
                _show_forecast(forecast(planned))
        raise typer.Exit(1 if planned.problems else 0)

    from benchmark.progress import Live

    with Live(err, quiet=as_json, costs=costs_of(request)) as live:
        evaluation = evaluate(request, live)
    _show_evaluation(evaluation, as_json)
    if evaluation.failures or evaluation.planned.problems:
        raise typer.Exit(1)


AddressOption = Annotated[str, typer.Option("--address", envvar="RAY_ADDRESS", help="Job server of the cluster, like http://head:8265.")]


@app.command()
def status(address: AddressOption = "http://127.0.0.1:8265", as_json: AsJson = False) -> None:
    """Evaluations handed to a cluster with run --detach."""
    from benchmark.execute.submit import submissions

    _show([vars(s) for s in submissions(address)], as_json, ("id", "state", "title", "message"))


@app.command()
def logs(
    submission: Annotated[str, typer.Argument(help="Id, as lobe status shows it.")], address: AddressOption = "http://127.0.0.1:8265"
) -> None:
    """What an evaluation on a cluster has printed so far."""
    from benchmark.execute.submit import logs as printed

    sys.stdout.write(printed(address, submission))


@app.command()
def cancel(
    submission: Annotated[str, typer.Argument(help="Id, as lobe status shows it.")], address: AddressOption = "http://127.0.0.1:8265"
) -> None:
    """Stops an evaluation on a cluster. What it stored stays; the same command goes on from there."""
    from benchmark.execute.submit import cancel as stop

    out.print("Stopped." if stop(address, submission) else "It had ended already.")


@app.command()
def report(
    out_folders: Annotated[
        list[Path], typer.Option("--out", help="Output folder; several are reported together, on a page in the first.")
    ] = [Path("lobe-out")],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Writes the leaderboard page, tables and plots from stored records; computes nothing."""
    from benchmark.api import write_report

    written = write_report(out_folders)
    for refused in written.refused:
        err.print(f"[red]refused:[/] {_plain(refused.sentence)}", soft_wrap=True)
    if as_json:
        _print_json({"page": str(written.page), "refused": [vars(refused) for refused in written.refused]})
    else:
        out.print(f"Leaderboard: {written.page}")
    if written.refused:
        raise typer.Exit(1)


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="lovt, gloria, prior, g2d, lrclr, mgca or benchx.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Folder with results; the pages are written to its report/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints a paper's published numbers, beside what was measured where that is a fair comparison."""
    from benchmark.api import reproduce as reproduced
    from benchmark.report import published, reproduce_pages

    found = reproduced(_choice("PAPER", paper, tuple(published.papers())), out_folder)
    page = reproduce_pages.write(found, out_folder) if out_folder is not None else None
    if as_json:
        _print_json({**reproduce_pages.to_dict(found), "page": None if page is None else str(page)})
        return
    out.print(reproduce_pages.to_rich(found))
    if page is not None:
        out.print(f"Pages: {_plain(str(page))}, and .md, .csv and .tex beside it.")


@app.command()
def score(
    task: Annotated[str, typer.Option("--task", "-t", help="Task whose test split the predictions are of.")],
    predictions: Annotated[Path, typer.Option("--predictions", "-p", help="detections.json or masks.json of a run, or made like one.")],
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    protocol: Annotated[str, typer.Option("--protocol", help="published or corrected.")] = "published",
    split: SplitOption = None,
    splits: SplitsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="The limit of the run that made the predictions.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores saved predictions again; they must say in which frame they were measured."""
    from benchmark.submission import score as rescore

    found = rescore(task, predictions, data, cache, protocol, limit, split, splits)
    if as_json:
        _print_json({**vars(found)})
        return
    rows = [{"metric": name, "per cent": f"{value * 100:.2f}"} for name, value in found.metrics.items()]
    rows += [{"metric": name, "per cent": f"– ({why})"} for name, why in found.undefined.items()]
    out.print(
        f"{found.task}, {found.n_images:,} test images, split {found.split}, protocol {found.protocol}; reported metric: {found.report}"
    )
    _show(rows, False, ("metric", "per cent"))


@app.command("check-backbone")
def check_backbone(
    backbone: Annotated[str, typer.Argument(help="SOURCE:MODEL[@WEIGHTS], CARD[@FILE] or file.py:function.")],
    container: ContainerOption = None,
    layout: LayoutOption = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="PNG of the feature maps on a generated radiograph.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Also score this task under both normalisations; needs --data.")] = None,
    data: DataOption = [],  # noqa: B006
    limit: Annotated[int, typer.Option("--limit", min=8, help="Images per split for --task.")] = 64,
    cache: CacheOption = None,
    as_json: AsJson = False,
) -> None:
    """Contract, checkpoint account, cost, warnings and a picture of one backbone, before anything is run."""
    from benchmark.check_backbone import check
    from benchmark.encoders.naming import with_choices

    (backbone,) = with_choices([backbone], container=container, layout=layout)
    found = check(backbone, cache, picture, task, tuple(data), limit)
    if as_json:
        from dataclasses import asdict

        own = found.normalisation and found.normalisation.model_dump(mode="json")
        _print_json({**asdict(found), "normalisation": own, "picture": found.picture and str(found.picture)})
    else:
        _show_checked(found)
    if found.fault:
        raise typer.Exit(1)


@new_app.command("backbone")
def new_backbone(file: Annotated[Path, typer.Argument(help="Python file to write.")] = Path("mine.py")) -> None:
    """Writes a backbone in Python to fill in, with every contract in its comments."""
    if file.exists():
        raise UsageError(f"{file} exists already: name another file.")
    file.write_text((registry.content("backbones") / "template.py").read_text(encoding="utf-8"), encoding="utf-8")
    out.print(f"Wrote {_plain(str(file))}. Next: lobe check-backbone {_plain(str(file))}:build")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for data, results and report.")] = Path("lobe-demo"),
    executor: Annotated[str, typer.Option("--executor", help="ray or inline.")] = "ray",
) -> None:
    """The newcomer's journey: phantom data, two backbones, four tasks, a leaderboard. About five minutes on a laptop."""
    from benchmark.demo import run_demo

    raise typer.Exit(run_demo(folder, _choice("--executor", executor, ("ray", "inline")), err))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What works on this machine, what does not, and how to mend it."""
    from benchmark.doctor import examine

    findings = examine()
    rows = [{"check": f.name, "state": f.state, "detail": f.detail, "mend": f.mend} for f in findings]
    _show(rows, as_json, ("check", "state", "detail", "mend"))
    if any(f.state == "error" for f in findings):
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="pipeline, frozen, step, suite, metrics, startup, or all.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for NAME.json, one a bench.")] = Path("lobe-bench"),
    quick: Annotated[bool, typer.Option("--quick", help="A miniature that shows that it runs; its times mean nothing.")] = False,
    page: Annotated[Path | None, typer.Option("--page", help="Also write the page made of all JSON files in --out, as Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures speed against the plain way on this machine and checks that both give the same numbers; `all` is meant for an hour."""
    from benchmark import bench as benches

    chosen = benches.NAMES if name == "all" else (_choice("NAME", name, benches.NAMES),)
    reports = []
    with tempfile.TemporaryDirectory(prefix="lobe-bench-") as folder:
        for each in chosen:
            if not as_json:
                err.print(f"bench {each} …")
            reports.append(benches.run(each, out_folder, quick=quick, folder=Path(folder)))
            if not as_json:
                out.print(benches.table(reports[-1]))
    if page is not None:
        benches.write_page(out_folder, page)
    if as_json:
        _print_json([r.model_dump(mode="json") for r in reports])
    else:
        out.print(f"Written to {_plain(str(out_folder))}.")
    if not all(r.equal for r in reports):
        err.print("[red]The two sides differ:[/] see the rows marked so; their times are no measurement.")
        raise typer.Exit(1)


@app.command()
def clean(
    cache: CacheOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the listed caches.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists caches with their sizes; --remove deletes them. Results are never touched."""
    from benchmark.data import caches, remove_caches

    rows = caches(cache)
    _show(rows, as_json, ("dataset", "bytes", "folder"))
    if remove:
        remove_caches(rows)
        if not as_json:
            out.print(f"Removed {len(rows)} caches, {sum(r['bytes'] for r in rows) / 2**20:.0f} MiB.")


# -------------------------------------------------------------------------------------------------------------------- output


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise typer.BadParameter(f"{value!r}: choose one of {', '.join(allowed)}.", param_hint=option)
    return value


def _print_json(document: Any) -> None:
    ascii_only = not terminal.takes_every_letter(sys.stdout)
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=ascii_only) + "\n")


def _show(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        _print_json(rows)
        return
    if any(row.get("custom") for row in rows):  # the column says nothing where nobody's own cards are read
        columns = (*columns, "custom")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _plain(f"{value:g}" if isinstance(value, float) else str(value))


def _plain(text: str) -> str:
    """Text with the console's markup escaped: names and paths may hold brackets."""
    return text.replace("[", r"\[")


def _bar(title: str, quiet: bool):
    from benchmark.progress import bar

    return bar(err, title, quiet)


def _job_row(job, planned) -> dict[str, Any]:
    """Without a key where the images that it depends on were not read yet; nobody knows then whether the job is stored."""
    e = job.experiment
    is_known = job.key not in planned.provisional
    state = planned.done[job.key].status if job.key in planned.done else "to compute" if is_known else "not known before hashing"
    if job.key in planned.earlier:
        state = "to take over"
    return {
        "task": job.labels.task,
        "split": e.dataset.split,
        "backbone": job.labels.backbone,
        "role": e.role.value,
        "run": job.labels.run_number,
        "learning_rate": e.learning_rate or (None if e.words else "winner of " + ", ".join(f"{v:g}" for v in e.recipe.grid)),
        "waits_for": len(job.depends_on) or None,
        "device": e.device_type,
        "precision": e.precision,
        "state": state,
        "key": job.key if is_known else None,
        "custom": list(job.labels.custom),
    }


def _dry_summary(planned) -> str:
    n_unknown, n_earlier = len(planned.provisional - planned.earlier), len(planned.earlier)
    counts = f"{len(planned.done)} stored, {planned.n_todo - n_unknown - n_earlier} to compute"
    unknown = f", {n_unknown} not known before their images are hashed" if n_unknown else ""
    earlier = f", {n_earlier} stored by an earlier release: taken over if their images are still the same" if n_earlier else ""
    return f"{len(planned.jobs)} jobs, {counts}{unknown}{earlier}."


def _show_unhashed(planned) -> None:
    from benchmark.progress import size_text

    for one in planned.unhashed:
        out.print(
            f"{one.dataset}: {one.n_files:,} image files ({size_text(one.n_bytes)}) are not hashed yet. The run does it first, once; "
            "only then do their jobs have keys.",
            soft_wrap=True,
        )


def _detach(request, no_tracking: bool, as_json: bool) -> None:
    """Hands the request over; its paths are the cluster's."""
    from benchmark.execute.submit import submit

    if request.address is None:
        raise typer.BadParameter("needs --address, the cluster's job server.", param_hint="--detach")
    if request.executor == "inline":
        raise typer.BadParameter("runs on a cluster's Ray: leave --executor inline out.", param_hint="--detach")
    single = {"suite": "--suite", "out": "--out", "cache": "--cache", "protocol": "--protocol", "runs": "--seeds", "limit": "--limit"}
    single |= {"profile": "--profile", "threads": "--threads", "split": "--split", "splits": "--splits", "checkpoints": "--checkpoints"}
    single |= {"device": "--device", "workers_per_job": "--workers-per-job", "retries": "--retries", "cache_budget": "--cache-budget"}
    given = [(option, getattr(request, name)) for name, option in single.items() if getattr(request, name) is not None]
    given += [("--task", name) for name in request.tasks] + [("--data", name) for name in request.data]
    words = [str(word) for pair in given for word in pair]
    words += ["--compile"] * request.compiled + ["--retry-failed"] * request.retry_failed + ["--no-tracking"] * no_tracking
    title = f"{request.suite or ', '.join(request.tasks)} · {', '.join(request.backbones)}"
    submission = submit(request.address, request.backbones, words, title, registry.included(), lists=request.verbose)
    if as_json:
        _print_json({"id": submission, "address": request.address})
        return
    out.print(f"Handed over as {submission}. You may leave.")
    out.print(f"Next: lobe status --address {_plain(request.address)}, or lobe logs {submission} --address {_plain(request.address)}")


def _show_forecast(expected) -> None:
    from benchmark.progress import duration

    known = f"{expected.measured_jobs} of {expected.n_jobs} jobs measured before, the rest a rough guess"
    out.print(
        f"Expected with {expected.machine}: about {duration(expected.seconds)} ({known}); "
        f"longest chain {duration(expected.critical_path_s)}; {expected.device_hours:.1f} device-hours; "
        f"up to {expected.process_bytes / 2**30:.1f} GiB a process; {expected.disk_bytes / 2**20:.0f} MiB of predictions known so far."
    )


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
    kind = "phantom" if verification.phantom else "never ranked" if verification.partial else "public release"
    out.print(
        f"[bold]{verification.dataset}[/] · {_plain(verification.release)} · {kind} · {'ok' if verification.ok else '[red]differs[/]'}"
    )
    _show(_verification(verification)["checks"], False, ("verdict", "what", "expected", "found", "hint"))


def _show_checked(found) -> None:
    kind = "random initialisation" if found.random else "weights loaded" if found.account else "weights of its own code"
    out.print(f"[bold]{_plain(found.label)}[/] · {kind} · contract {'[red]broken[/]' if found.fault else 'kept'}")
    if found.fault:
        err.print(_plain(found.fault), soft_wrap=True)
        return
    if found.account_table:
        out.print(_plain(found.account_table))
    _show([vars(level) for level in found.levels], False, ("stride", "channels", "side"))
    own = f"mean {found.normalisation.mean}, std {found.normalisation.std}" if found.normalisation else "none"
    memory = "" if found.peak_bytes is None else f", {found.peak_bytes / 2**20:.0f} MiB at its peak"
    out.print(
        f"{found.parameters:,} parameters; per image of 224 px: {found.macs / 1e9:.2f} GMAC, {found.seconds * 1000:.0f} ms here{memory},"
    )
    out.print(f"{found.feature_bytes / 2**20:.1f} MiB of features. Own normalisation: {own}.")
    out.print(f"Made for images of {found.input_size} px; its first layer takes {found.in_channels} channel(s).")
    for rule, score in found.scores.items():
        out.print(f"  {rule}: {score * 100:.1f} (one short run: no evidence for a small difference)")
    for warning in found.warnings:
        out.print(f"[yellow]note:[/] {_plain(warning)}", soft_wrap=True)
    if found.picture is not None:
        out.print(f"Feature maps: {_plain(str(found.picture))}")


def _show_problems(problems) -> None:
    for problem in problems:
        err.print(f"[yellow]left out:[/] {_plain(problem.what)}: {_plain(problem.sentence)}", soft_wrap=True)


def _show_evaluation(evaluation, as_json: bool) -> None:
    planned = evaluation.planned
    _show_problems(planned.problems)
    not_computed = evaluation.not_computed
    for record in evaluation.failures:
        assert record.failure is not None
        name = f"{record.job.labels.task} · {record.job.labels.backbone} · run {record.job.labels.run_number}"
        state = "not computed" if record in not_computed else "failed"
        err.print(f"[red]{state}:[/] {_plain(name)}: {_plain(record.failure.sentence)}", soft_wrap=True)
    if evaluation.tracking_problem:
        err.print(f"[yellow]tracking:[/] {_plain(evaluation.tracking_problem)}", soft_wrap=True)
    from benchmark.report import resampling
    from benchmark.report.rows import rows_of
    from benchmark.report.tables import to_dicts, to_rich

    rows = rows_of(evaluation.records, planned=planned.jobs, resampled=partial(resampling.of_record, out=planned.request.out))
    if as_json:
        counts = {"computed": evaluation.computed, "stored": len(planned.done), "not_computed": [r.key for r in not_computed]}
        _print_json({**counts, **to_dicts(rows)})
        return
    out.print(to_rich(rows))
    out.print(f"{evaluation.computed} jobs computed, {len(planned.done)} already stored in {_plain(str(planned.request.out))}.")
    if not_computed:
        out.print(f"{len(not_computed)} not computed, for want of memory, disk or a device: the same command computes them again.")
    out.print(f"Next: lobe report --out {_plain(str(planned.request.out))}")
