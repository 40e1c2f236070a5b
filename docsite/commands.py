"""The reference for the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from benchmark import cli
from docsite.tables import cell, table


def page() -> str:
    """Every command with its arguments and options, as Markdown."""
    root = typer.main.get_command(cli.app)
    sections = [section for names, command in commands() for section in _section(names, command)]
    head = [
        "# Command line",
        "",
        "Made from the commands themselves when the site is built: what `lobe VERB --help` says, on one page.",
        "",
        "Exit codes: 0, all good; 1, some jobs failed or the command was stopped, and the rest is stored; 2, nothing could start.",
        "",
        "Options before the verb:",
        "",
        *_parameters(root),
    ]
    return "\n".join([*head, *sections]) + "\n"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Words of every command that does something, with the command, in the order of `lobe --help`."""
    yield from _below(typer.main.get_command(cli.app), ())


def _below(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield names, command
        return
    for name in command.list_commands(None):
        below = command.commands[name]
        if not below.hidden:
            yield from _below(below, (*names, name))


def _section(names: tuple[str, ...], command: Any) -> list[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["lobe", *names, *(_placeholder(one) for one in arguments), "[OPTIONS]"])
    return ["", f"## `lobe {' '.join(names)}`", "", _plain(command.help), "", f"```\n{usage}\n```", "", *_parameters(command)]


def _placeholder(argument: Any) -> str:
    name = argument.name.upper().replace("_", "-") + ("..." if argument.nargs == -1 or argument.multiple else "")
    return name if argument.required else f"[{name}]"


def _parameters(command: Any) -> list[str]:
    rows = []
    for one in command.params:
        if one.name == "help" or getattr(one, "hidden", False):
            continue
        is_option = one.param_type_name == "option"
        written = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)) if is_option else f"`{_placeholder(one)}`"
        rows.append((written, cell(_plain(one.help or "")), _default(one)))
    return table(("option", "what", "default"), rows) if rows else ["No options."]


def _default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    default = parameter.default
    if callable(default) or default in (None, "", [], ()) or default is False:
        return ""
    return f"`{default}`"


def _plain(text: str) -> str:
    """Help without the marks that colour it."""
    return re.sub(r"\[/?(?:bold|italic|dim|red|green|yellow|cyan|blue)*\]", "", " ".join(text.split()))
