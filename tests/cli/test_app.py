"""The command as a whole: one JSON document where asked for one, exit codes that scripts can rely on, help that tells every option."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

LINEAR = "rsna-linear-frozen-100"
HANDED = ("--task", LINEAR, "--out", "/out", "--address", "http://head:8265", "--detach")


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "status"),
        ("data", "verify", "rsna"),
        ("data", "prepare", "rsna"),
        ("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--dry-run", "--out", "OUT"),
        (
            "run",
            "-b",
            "torchvision:resnet18",
            "-t",
            LINEAR,
            "--limit",
            "8",
            "--seeds",
            "1",
            "--profile",
            "smoke",
            "--executor",
            "inline",
            "--no-tracking",
            "--out",
            "OUT",
        ),
    ],
    ids=lambda a: " ".join(a[:2]) + (" --dry-run" if "--dry-run" in a else ""),
)
def test_json_is_one_document_on_stdout_and_nothing_else(lobe, corpora: Path, tmp_path: Path, arguments):
    given = [tmp_path / "out" if a == "OUT" else a for a in arguments]
    code, text, err = lobe(*given, "--data", corpora, "--json")
    assert (code, err) == (0, "")
    assert json.loads(text)
    assert text.count("\n}") + text.count("\n]") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--executor", "slurm"), "ray, inline"),
        (("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--profile", "quick"), "full, smoke"),
        (("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--threads", "0"), "--threads"),
        (("run", "-t", LINEAR), "--backbone"),
        (("run", "-b", "torchvision:resnet18"), "--suite"),
        (("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--no-such-option"), "--no-such-option"),
        (("run", "-b", "resnet18", "-t", LINEAR, "--data", "."), "backbone"),
        (("list", "tasks", "--suite", "lovt-81"), "lovt-18"),
        (("data", "sample", "x", "--patients", "4"), "--patients"),
        (("score", "-t", LINEAR), "--predictions"),
        (("score", "-t", LINEAR, "-p", "x", "--limit", "-1"), "--limit"),
        (("pretrain", "g2d-phantom", "--device", "gpu"), "cpu, cuda"),
        (("run", "-b", "x", *HANDED, "--dry-run"), "--dry-run computes nothing: leave one of them out"),
        (("new", "backbone", "no-folder/mine.py"), "error: no-folder/mine.py cannot be written: No such file or directory. Name a file"),
        (("new", "backbone", "file/mine.py"), "error: file/mine.py cannot be written: Not a directory. Name a file in a folder"),
        (("report", "--out", "file"), "file is no output folder but a file. Give the folder that `lobe run` was given as --out"),
        (("results", "--out", "file"), "file is no output folder but a file. Give the folder that `lobe run` was given as --out"),
        (("reproduce", "prior", "--out", "file"), "cannot be written: Not a directory. Give an --out"),
        (("data", "get", "rsna", "--data", "file"), "--data file is a file. Name the folder below which each release gets its own."),
        (("data", "get", "rsna", "--data", "rsna=/x"), "takes the folder above, and makes rsna in it. Give --data DIR."),
        (("weights", "get", "rad-dino", "--cache", "file"), "cannot be written: Not a directory. Choose another --cache."),
        (("report", "--out", "no-such-folder"), "no results yet"),
        (("report", "--recipe", "mine"), "write NAME=BACKBONE"),
        (("--include", "no-such-folder", "list", "tasks"), "no-such-folder"),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, tuple) else "",
)
def test_wrong_use_exits_with_2_and_names_what_is_wrong(lobe, arguments, said, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *_, **__: pytest.fail("handed over"))
    Path("file").touch()
    code, text, err = lobe(*arguments)
    assert (code, text) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_an_error_with_brackets_in_a_path_is_printed_whole(lobe, tmp_path: Path):
    (tmp_path / "[odd]").mkdir()
    code, _, err = lobe("data", "verify", "rsna", "--data", f"rsna={tmp_path / '[odd]'}")
    assert (code, "[odd]" in err) == (2, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_verb_ends_with_a_sentence_and_1(lobe, monkeypatch, how):
    monkeypatch.setattr("benchmark.registry.suites", lambda: signal.raise_signal(how))
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests started in the background of a shell ignore it
    try:
        code, text, err = lobe("list", "suites")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert (code, text, err) == (1, "", "Stopped. What is stored stays; the same command goes on from there.\n")


def test_a_bug_keeps_its_traceback(lobe, monkeypatch):
    def broken():
        raise KeyError("a bug")

    monkeypatch.setattr("benchmark.registry.suites", broken)
    with pytest.raises(KeyError, match="a bug"):
        lobe("list", "suites")


@pytest.mark.parametrize(
    "verb", [(), ("run",), ("results",), ("data",), ("list",), ("score",), ("report",), ("panel",), ("clean",), ("doctor",), ("demo",)]
)
def test_help_of_every_verb(lobe, verb):
    code, text, err = lobe(*verb, "--help")
    assert (code, err) == (0, "")
    assert "Usage" in text


def test_the_command_alone_says_what_to_do_first(lobe):
    code, text, err = lobe()
    assert (code, err) == (0, "")
    commands = [line.strip() for line in text.splitlines() if line.startswith("  lobe ")]
    assert commands[0] == "lobe demo"
    assert len(text.splitlines()) < 15


def test_an_interrupt_before_the_verb_begins_is_the_sentence_too(lobe, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.terminal.prepare", interrupted)
    assert lobe("list", "suites") == (1, "", "Stopped. What is stored stays; the same command goes on from there.\n")
