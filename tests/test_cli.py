"""The command line: one JSON document where asked for one, exit codes that scripts can rely on, help that tells every option."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

LINEAR = "rsna-linear-frozen-100"


@pytest.fixture
def lobe(monkeypatch, capsys, tmp_path: Path, image_cache: Path):
    """Calls the command as its entry point does; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from benchmark.cli import main

        monkeypatch.setattr("sys.argv", ["lobe", *map(str, arguments)])
        monkeypatch.setenv("LOBE_CACHE", str(image_cache))
        monkeypatch.setattr("benchmark.plan.smoke_steps", lambda head: 2)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.parametrize("listing", ["tasks", "suites", "datasets", "backbones", "papers"])
def test_a_listing_is_a_table_or_one_json_document(lobe, listing):
    code, text, err = lobe("list", listing, "--json")
    rows = json.loads(text)
    assert (code, err) == (0, "")
    assert len(rows) > 1
    code, table, _ = lobe("list", listing)
    assert code == 0
    name = str(rows[0].get("name") or rows[0]["id"])
    assert name in table


def test_own_cards_are_marked_custom_in_every_listing(lobe, tmp_path: Path):
    from benchmark import registry

    before = list(registry._included)
    card = registry.task(LINEAR).model_dump(mode="json") | {"id": "mine"}
    suite = {"name": "own", "title": "Own", "description": "Own.", "tasks": ["mine"], "default_protocol": "published"}
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    (tmp_path / "own" / "tasks" / "own.yaml").write_text(json.dumps({"tasks": [card], "suites": [suite]}), encoding="utf-8")
    try:
        for listing, name in (("tasks", "mine"), ("suites", "own")):
            rows = json.loads(lobe("--include", tmp_path / "own", "list", listing, "--json")[1])
            assert {row.get("id") or row["name"] for row in rows if row["custom"]} == {name}
            registry._included[:] = before
            assert "custom" in lobe("--include", tmp_path / "own", "list", listing)[1].splitlines()[0]
            registry._included[:] = before
            registry.forget()
    finally:
        registry._included[:] = before
        registry.forget()
    assert "custom" not in lobe("list", "tasks")[1].splitlines()[0]


def test_tasks_of_one_suite(lobe):
    rows = json.loads(lobe("list", "tasks", "--suite", "lovt-18", "--json")[1])
    assert len(rows) == 18
    assert all("lovt-18" in row["suites"] for row in rows)


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


def test_clean_lists_as_json_and_removes_only_when_told(lobe, corpora: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert lobe("data", "prepare", "rsna", "--data", corpora, "--cache", cache, "--json")[0] == 0
    (row,) = json.loads(lobe("clean", "--cache", cache, "--json")[1])
    assert row["dataset"] == "rsna"
    assert Path(row["folder"]).is_dir()
    assert json.loads(lobe("clean", "--cache", cache, "--remove", "--json")[1]) == [row]
    assert json.loads(lobe("clean", "--cache", cache, "--json")[1]) == []


def test_a_sample_is_written_told_and_verified(lobe, tmp_path: Path):
    code, text, _ = lobe("data", "sample", tmp_path / "data", "--dataset", "rsna", "--patients", "5", "--workers", "1", "--json")
    (row,) = json.loads(text)
    assert (code, row["dataset"]) == (0, "rsna")
    assert (tmp_path / "data" / "rsna" / "PHANTOM.json").is_file()
    assert lobe("data", "verify", "rsna", "--data", tmp_path / "data")[0] == 0


def test_a_sample_of_no_named_dataset_is_one_of_each_that_has_a_phantom(lobe, tmp_path: Path, monkeypatch):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    code, text, _ = lobe("data", "sample", tmp_path, "--json")
    assert code == 0
    assert [row["dataset"] for row in json.loads(text)] == list(corpus.writers())
    assert "rsna-labels" not in corpus.writers()


def test_verify_of_an_edited_folder_exits_with_1_and_shows_expected_and_found(lobe, corpora: Path, tmp_path: Path):
    import shutil

    shutil.copytree(corpora / "rsna", tmp_path / "rsna")
    labels = tmp_path / "rsna" / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *sorted(rows)]) + "\n")
    code, text, _ = lobe("data", "verify", "rsna", "--data", tmp_path, "--json")
    (found,) = json.loads(text)
    assert (code, found["ok"]) == (1, False)
    assert any(check["verdict"] == "error" and check["expected"] != check["found"] for check in found["checks"])


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
        (("report", "--out", "no-such-folder"), "no results yet"),
        (("--include", "no-such-folder", "list", "tasks"), "no-such-folder"),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, tuple) else "",
)
def test_wrong_use_exits_with_2_and_names_what_is_wrong(lobe, arguments, said, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, err = lobe(*arguments)
    assert (code, text) == (2, "")
    assert said in err
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


def test_a_dry_run_says_what_waits_for_what(lobe, corpora: Path, tmp_path: Path):
    rows = json.loads(
        lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run", "--json")[1]
    )
    waiting = [row for row in rows if row["role"] == "final"]
    assert all(row["waits_for"] == sum(r["role"] == "selection" for r in rows) for row in waiting)
    assert len({row["key"] for row in rows}) == len(rows)
    code, text, _ = lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run")
    assert (code, f"{len(rows)} jobs, 0 stored, {len(rows)} to compute." in text) == (0, True)


@pytest.mark.parametrize("verb", [(), ("run",), ("data",), ("list",), ("score",), ("report",), ("clean",), ("doctor",), ("demo",)])
def test_help_of_every_verb(lobe, verb):
    code, text, err = lobe(*verb, "--help")
    assert (code, err) == (0, "")
    assert "Usage" in text


def test_a_handed_over_evaluation_is_the_one_that_was_asked_for(lobe, tmp_path: Path, monkeypatch):
    """Whatever option `run` has reaches the cluster's `run`."""
    from dataclasses import fields

    from benchmark import registry
    from benchmark.api import Request

    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *given, lists: handed.append(given[2:]) or "id")
    options = {"--suite": "lovt-18", "--task": LINEAR, "--data": "/data", "--out": "/out", "--cache": "/cache", "--cache-budget": "4GB"}
    options |= {"--protocol": "corrected", "--seeds": "3", "--split": "lovt", "--splits": "/splits", "--limit": "9", "--profile": "smoke"}
    options |= {"--device": "cuda", "--threads": "2", "--checkpoints": "/checkpoints", "--workers-per-job": "2", "--retries": "7"}
    flags = ["--compile", "--retry-failed", "--no-tracking"]
    words = [word for pair in options.items() for word in pair]
    assert lobe("run", "--backbone", "x", *words, *flags, "--address", "http://head:8265", "--detach")[0] == 0
    ((sent, _, includes),) = handed
    assert includes == ()
    n = len(sent) - len(flags)
    assert dict(zip(sent[:n:2], sent[1:n:2], strict=True)) == options
    assert sent[n:] == flags
    apart = {"backbones", "executor", "address", "verbose"}  # travel as files, are the cluster's, or are said here
    assert len(fields(Request)) - len(apart) == len(options) + len(flags)
    assert lobe("run", "--backbone", "x", "--executor", "inline", "--address", "http://head:8265", "--detach")[0] == 2
    try:
        assert lobe("--include", tmp_path, "run", "--backbone", "x", "--task", LINEAR, "--address", "http://head:8265", "--detach")[0] == 0
        assert handed[-1][2] == (tmp_path.resolve(),)
    finally:
        registry._included.remove(tmp_path.resolve())
        registry.forget()


@pytest.mark.parametrize(
    ("what", "name", "fields"),
    [
        ("tasks", "rsna-linear-frozen-100", {"published": ["lovt", "rsna-linear-frozen-100"], "recipe_of": None}),
        ("protocols", "published", {"statistics": "dataset", "equalise": "as-released", "data_order": "one-seed"}),
        ("datasets", "rsna", {"notes"}),
        ("backbones", "gloria", {"paper", "origin", "licence", "intensity"}),
        ("prompts", None, {"title", "source", "classes", "templates"}),
        (
            "papers",
            "lovt",
            {"suite": "lovt-18", "protocol": "published", "compared": ["Main results, tasks 1-9", "Main results, tasks 10-18"]},
        ),
    ],
)
def test_listings_show_what_only_cards_say(lobe, what: str, name: str | None, fields):
    code, out, _ = lobe("list", what, "--json")
    rows = [row for row in json.loads(out) if name in (None, row.get("name"), row.get("id"))]
    assert (code, bool(rows)) == (0, True)
    for field in fields:
        assert rows[0][field] == fields[field] if isinstance(fields, dict) else field in rows[0]


def test_choice_of_weights_travels_with_the_backbones_name(lobe, monkeypatch):
    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda address, backbones, *given, **more: handed.append(backbones) or "id")
    choices = ("--container", "teacher", "--layout", "prefix:net.")
    assert lobe("run", "--backbone", "prior@a.pth", *choices, "--task", LINEAR, "--address", "http://head:8265", "--detach")[0] == 0
    assert handed == [["prior@a.pth#container=teacher#layout=prefix:net."]]
    code, _, err = lobe("check-backbone", "torchvision:resnet18", "--container", "teacher")
    assert code == 2
    assert "--container is of a weights file" in err
