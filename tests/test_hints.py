"""Hints name only commands that exist: every `lobe …` in a sentence of the package, with its verbs and options, is one of the app's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

import benchmark
from benchmark import cli, errors

SOURCE = Path(benchmark.__file__).parent
TEMPLATE = SOURCE.parent / "backbones" / "template.py"
# In backticks, in <code>, or behind "Next: ", as the terminal prints it; the end of a name may be filled in.
COMMAND = re.compile(r"(?:`|<code>|Next: |, or |^ +)lobe((?: [^\s`<,;.]\S*?)*?)(?=[`<,;.]|$|\s\s|\s…)", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\b")
FILLED = "PLACE"  # what stands in a sentence where the program fills something in
# Options of other tools that sentences speak of, by the tool.
OTHERS = {
    "ray": {"--head", "--address", "--num-gpus", "--num-cpus", "--generate"},
    "mlflow": {"--backend-store-uri"},
    "pip": {"--constraint", "--no-deps"},
    "git": {"--always", "--dirty"},
    "nvidia-smi": {"--query-gpu", "--format"},
    "docker": {"--gpus", "--shm-size"},
    "the GPU check's own parser": {"--budget", "--commit", "--step"},
}
STYLE = ("style.css.j2", "plots.js.j2")  # two dashes begin a variable there


def test_every_hint_names_a_command_that_exists() -> None:
    hints = [(where, words) for where, text in sentences() for words in COMMAND.findall(text)]
    assert len(hints) > 30  # the scan finds them
    assert [f"{where}: lobe{words}" for where, words in hints if fault_of(words)] == []


def test_every_option_in_a_sentence_exists() -> None:
    known = {option for command in commands().values() for option in options(command)} | {"--help"}.union(*OTHERS.values())
    named = [(where, option) for where, text in sentences() for option in OPTION.findall(text)]
    assert len(named) > 50
    assert [f"{where}: {option}" for where, option in named if option not in known] == []


def test_kinds_that_are_said_to_be_listed_are() -> None:
    assert {f"{kind}s" for kind in errors.LISTED} <= set(commands()) | set(root().commands["list"].commands)


@pytest.mark.parametrize(
    ("words", "faulty"),
    [
        (" list weights", True),
        (" list tasks", False),
        (" run --backbones x", True),
        (" run --backbone x", False),
        (" --include mine run --task x", False),
        (" data verify PLACE", False),
        (" data verfy PLACE", True),
        (" --help", False),
        (" reprot", True),
    ],
)
def test_watch_on_hints_would_notice(words: str, faulty: bool) -> None:
    assert bool(fault_of(words)) == faulty


def fault_of(words: str) -> str:
    """Why there is no such command; empty where there is."""
    command, group = root(), "lobe"
    for word in words.split():
        if word.startswith("--"):
            name = word.partition("=")[0]
            if name not in {*options(command), "--help"}:
                return f"{group} has no {name}"
        elif hasattr(command, "commands") and word in command.commands:
            command, group = command.commands[word], f"{group} {word}"
        elif hasattr(command, "commands") and re.fullmatch(r"[a-z][a-z-]*", word) and group != "lobe":
            return f"{group} has no {word}"
        elif command is root() and re.fullmatch(r"[a-z][a-z-]*", word) and word not in ("mine",):
            return f"lobe has no {word}"
    return ""


@cache
def root() -> typer.core.TyperGroup:
    return typer.main.get_command(cli.app)


def commands() -> dict[str, object]:
    found: dict[str, object] = {"": root()}
    for name, command in root().commands.items():
        found[name] = command
        found |= {f"{name} {below}": inner for below, inner in getattr(command, "commands", {}).items()}
    return found


def options(command: object) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of the package, joined where a program fills something in, and its templates."""
    for path in [*sorted(SOURCE.rglob("*.py")), TEMPLATE]:
        name = path.relative_to(SOURCE.parent).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
                yield f"{name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield f"{name}:{node.lineno}", node.value
    for path in sorted(set(SOURCE.rglob("*.j2")) - {SOURCE / "report" / "templates" / name for name in STYLE}):
        yield path.name, path.read_text(encoding="utf-8")
