"""The application: what every verb shares, its entry point and its exit codes.

Exit codes: 0 all good; 1 some jobs failed or it was stopped (Ctrl-C, SIGTERM), the rest is stored; 2 nothing could start, or what it ran on
is lost (the cluster's head, the disk), and what was done before is stored.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from benchmark import extras, registry, stopping, terminal
from benchmark.cli.show import err, out, plain
from benchmark.errors import LobeError

if TYPE_CHECKING:
    from typer._click import Context  # Typer's own copy of click; earlier ones took click's

_TYPER_INTERRUPTED = 130  # the exit code into which Typer turns a KeyboardInterrupt, without a word
# The order of `lobe --help`: what a newcomer needs first stands first. A verb that is not named here comes last.
_ORDER = (
    "demo",
    "run",
    "results",
    "report",
    "reproduce",
    "panel",
    "pretrain",
    "study",
    "score",
    "export",
    "convert",
    "submit",
    "validate",
    "accept",
    "withdraw",
    "check-backbone",
    "new",
    "validate-cards",
    "list",
    "data",
    "weights",
    "status",
    "logs",
    "cancel",
    "doctor",
    "clean",
)

# What `lobe` alone says: the shortest way to a result, and from there to one's own.
FIRST = """\
LOBE, the LOcalized BEnchmark: how good is a chest X-ray backbone at saying where a finding is?

First, without data and without a GPU, in about four minutes:
  lobe demo

Then with a network of your own, or with one that has a name:
  lobe check-backbone torchvision:resnet18
  lobe data get rsna --data DIR
  lobe run --backbone torchvision:resnet18 --suite lobe-v1 --data DIR --dry-run

What this machine can do: `lobe doctor`. Every verb: `lobe --help`."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Context) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


app = typer.Typer(
    cls=_InOrder,
    help="LOBE, the LOcalized BEnchmark: how good is a chest X-ray backbone at saying where a finding is?",
    epilog="First: `lobe demo`, which needs no data and no GPU. `lobe run --dry-run` says what a run would cost.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lobe {extras.release()}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version of this installation.")] = False,
    include: Annotated[
        list[Path],
        typer.Option(
            "--include", help="Folder of your own: tasks/, datasets/, backbones/, results/; readers/, heads/, metrics/, encoders/"
        ),
    ] = [],  # noqa: B006
) -> None:
    for folder in include:
        registry.include(folder)
    if include:
        from benchmark import task_rules

        task_rules.require_included()
    if ctx.invoked_subcommand is None:
        out.print(plain(FIRST), soft_wrap=True)


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
        from benchmark import faults

        error = extras.missing(error) or (None if isinstance(error, LobeError) else faults.no_room(error)) or error
        if not isinstance(error, LobeError):
            raise
        err.print(f"[bold red]error:[/] {plain(str(error))}", soft_wrap=True)
        sys.exit(2)
