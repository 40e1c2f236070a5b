"""Evaluations handed over to a cluster: `lobe run --detach`, `lobe status`, `lobe logs`, `lobe cancel`."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson
from benchmark.cli.show import out, plain, print_json, show_rows


def hand_over(request, no_tracking: bool, as_json: bool, *, dry_run: bool = False) -> None:
    """Hands the request over; its paths are the cluster's."""
    from benchmark.execute.submit import submit

    if dry_run:
        why = "hands the evaluation over to be computed, and --dry-run computes nothing: leave one of them out."
        raise typer.BadParameter(why, param_hint="--detach")
    if request.address is None:
        raise typer.BadParameter("needs --address, the cluster's job server.", param_hint="--detach")
    if request.executor == "inline":
        raise typer.BadParameter("runs on a cluster's Ray: leave --executor inline out.", param_hint="--detach")
    single = {"suite": "--suite", "out": "--out", "cache": "--cache", "protocol": "--protocol", "runs": "--seeds", "limit": "--limit"}
    single |= {"profile": "--profile", "threads": "--threads", "split": "--split", "splits": "--splits", "checkpoints": "--checkpoints"}
    single |= {"device": "--device", "workers_per_job": "--workers-per-job", "retries": "--retries", "cache_budget": "--cache-budget"}
    given = [(option, getattr(request, name)) for name, option in single.items() if getattr(request, name) is not None]
    given += [("--task", name) for name in request.tasks] + [("--data", name) for name in request.data]
    _require_absolute(request)
    words = [str(word) for pair in given for word in pair]
    words += ["--compile"] * request.compiled + ["--retry-failed"] * request.retry_failed + ["--no-tracking"] * no_tracking
    title = f"{request.suite or ', '.join(request.tasks)} · {', '.join(request.backbones)}"
    submission = submit(request.address, request.backbones, words, title, lists=request.verbose)
    if as_json:
        print_json({"id": submission, "address": request.address})
        return
    out.print(f"Handed over as {submission}. You may leave.")
    out.print(f"Next: lobe status --address {plain(request.address)}, or lobe logs {submission} --address {plain(request.address)}")


def _require_absolute(request) -> None:
    """A job runs in a folder that Ray unpacks and may remove: a path relative to it is none of the user's."""
    paths = {"--out": request.out, "--cache": request.cache, "--splits": request.splits, "--checkpoints": request.checkpoints}
    given = [*paths.items(), *(("--data", _path_of(entry)) for entry in request.data)]
    for option, path in given:
        if path is not None and not PurePosixPath(path).is_absolute():
            why = "is relative, and with --detach paths are the cluster's. Give one from the root, on a disk that stays."
            raise typer.BadParameter(f"{path} {why}", param_hint=option)


def _path_of(entry: str) -> str:
    """The folder of a `--data` entry, which is a folder or NAME=PATH; either may hold equals signs."""
    return entry if entry.startswith("/") or "=" not in entry else entry.partition("=")[2]


AddressOption = Annotated[str, typer.Option("--address", envvar="RAY_ADDRESS", help="Job server of the cluster, like http://head:8265.")]


@app.command()
def status(address: AddressOption = "http://127.0.0.1:8265", as_json: AsJson = False) -> None:
    """Evaluations handed to a cluster with run --detach."""
    from benchmark.execute.submit import submissions

    show_rows([vars(s) for s in submissions(address)], as_json, ("id", "state", "title", "message"))


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
