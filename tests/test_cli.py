"""The command line: one JSON document where asked for one, exit codes that scripts can rely on, help that tells every option."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.full_disk import full_disk

LINEAR = "rsna-linear-frozen-100"
HANDED = ("--task", LINEAR, "--out", "/out", "--address", "http://head:8265", "--detach")


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


def test_a_dry_run_says_what_waits_for_what(lobe, corpora: Path, tmp_path: Path):
    rows = json.loads(
        lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run", "--json")[1]
    )
    waiting = [row for row in rows if row["role"] == "final"]
    assert all(row["waits_for"] == sum(r["role"] == "selection" for r in rows) for row in waiting)
    assert len({(row["role"], row["run"], row["learning_rate"]) for row in rows}) == len(rows)
    code, text, _ = lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run")
    assert (code, f"{len(rows)} jobs, 0 stored, " in text) == (0, True)


def test_a_dry_run_prints_a_line_per_task_with_a_total_and_every_job_on_demand(lobe, corpora: Path, tmp_path: Path):
    given = ("run", "-b", "torchvision:resnet18", "-b", "torchvision:resnet34", "-t", LINEAR, "-t", "rsna-linear-frozen-10")
    given = (*given, "--data", corpora, "--out", tmp_path, "--dry-run")
    lines = [line.split() for line in lobe(*given)[1].splitlines()]
    of_tasks = [line for line in lines if line[:1] in ([LINEAR], ["rsna-linear-frozen-10"])]
    assert [line[-5:] for line in of_tasks] == [["2", "8", "10", "18", "18"]] * 2  # backbones, searches, runs, jobs, their one state
    assert [line for line in lines if line[:2] == ["total", "of"]] == [["total", "of", "2", "tasks", "2", "16", "20", "36", "36"]]
    code, every, _ = lobe(*given, "-v")
    assert (code, sum(line.startswith("rsna-linear-frozen-10") for line in every.splitlines())) == (0, 36)


def test_a_dry_run_counts_jobs_whose_images_nobody_hashed_in_a_column_of_their_own(lobe, corpora: Path, tmp_path: Path):
    copied = tmp_path / "data" / "rsna"
    shutil.copytree(corpora / "rsna", copied)
    given = ("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", f"rsna={copied}", "--out", tmp_path / "out", "--dry-run")
    heading, counted = ([" ".join(line.split())] for line in lobe(*given)[1].splitlines() if line.strip().startswith(("task", LINEAR)))
    assert (heading[0].endswith("jobs not known yet"), counted[0].split()[-2:]) == (True, ["9", "9"])


def test_a_paper_goes_through_the_pager_of_a_terminal_and_straight_into_a_file(lobe, monkeypatch):
    command, paged = ("reproduce", "g2d", "--table", "Table 2a"), []
    monkeypatch.setenv("LESS", "")
    monkeypatch.delenv("LESS")  # and back to what it was afterwards
    assert "BioViL" in lobe(*command)[1]
    monkeypatch.setattr("pydoc.pager", paged.append)  # what rich hands a terminal's text to
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, text, err = lobe(*command)
    assert (code, err, "BioViL" in paged[0], "BioViL" in text) == (0, "", True, False)
    assert os.environ["LESS"] == "FRSX"


def test_a_paper_beside_a_folder_without_results_says_so(lobe, tmp_path: Path):
    code, text, err = lobe("reproduce", "g2d", "--table", "Table 2a", "--out", tmp_path / "mistyped")
    assert (code, "BioViL" in text) == (0, True)
    assert "mistyped holds no results: the tables show published numbers alone." in err


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


def test_a_disk_without_room_ends_with_a_sentence_and_two_and_leaves_no_part(lobe, tmp_path: Path, capsys):
    capsys.readouterr()
    with full_disk():
        code, text, err = lobe("new", "backbone", tmp_path / "mine.py")
    assert (code, text) == (2, "")
    assert err.startswith(f"error: No room left on the disk for {tmp_path / 'mine.py'} (File too large). Make room, or choose a folder")
    assert list(tmp_path.iterdir()) == []
    assert lobe("new", "backbone", tmp_path / "mine.py")[0] == 0


def test_a_handed_over_evaluation_is_the_one_that_was_asked_for(lobe, tmp_path: Path, monkeypatch):
    """Whatever option `run` has reaches the cluster's `run`."""
    from dataclasses import fields

    from benchmark import registry
    from benchmark.api import Request
    from benchmark.own import catalogue

    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *given, lists: handed.append(given[2:]) or "id")
    options = {"--suite": "lovt-18", "--task": LINEAR, "--data": "/data", "--out": "/out", "--cache": "/cache", "--cache-budget": "4GB"}
    options |= {"--protocol": "corrected", "--seeds": "3", "--split": "lovt", "--splits": "/splits", "--limit": "9", "--profile": "smoke"}
    options |= {"--device": "cuda", "--threads": "2", "--checkpoints": "/checkpoints", "--workers-per-job": "2", "--retries": "7"}
    flags = ["--compile", "--retry-failed", "--no-tracking"]
    words = [word for pair in options.items() for word in pair]
    assert lobe("run", "--backbone", "x", *words, *flags, "--address", "http://head:8265", "--detach")[0] == 0
    ((sent, _),) = handed
    n = len(sent) - len(flags)
    assert dict(zip(sent[:n:2], sent[1:n:2], strict=True)) == options
    assert sent[n:] == flags
    apart = {"backbones", "executor", "address", "verbose"}  # travel as files, are the cluster's, or are said here
    assert len(fields(Request)) - len(apart) == len(options) + len(flags)
    assert lobe("run", "--backbone", "x", "--executor", "inline", "--address", "http://head:8265", "--detach")[0] == 2
    try:
        assert lobe("--include", tmp_path, "run", "--backbone", "x", *HANDED)[0] == 0
        assert registry.included() == (tmp_path.resolve(),)  # what `submit` sends along by itself (tests/execute/test_ship.py)
    finally:
        catalogue.FOLDERS.clear()
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


@pytest.mark.parametrize("option", ["--out", "--cache", "--splits", "--checkpoints", "--data"])
def test_what_is_handed_over_has_paths_from_the_root(lobe, monkeypatch, option):
    """A job runs in a folder that Ray unpacks, and may remove with all that was stored there."""
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *_, **__: pytest.fail("handed over"))
    paths = {"--out": "/out", "--data": "rsna=/data/run=1/rsna"} | {option: "rsna=mine" if option == "--data" else "mine"}
    words = [word for pair in paths.items() for word in pair]
    code, _, err = lobe("run", "--backbone", "x", "--task", LINEAR, *words, "--address", "http://head:8265", "--detach")
    assert code == 2
    assert f"{option}" in err
    assert "mine is relative, and with --detach paths are the cluster's" in " ".join(err.replace("│", " ").split())


def test_choice_of_weights_travels_with_the_backbones_name(lobe, monkeypatch):
    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda address, backbones, *given, **more: handed.append(backbones) or "id")
    choices = ("--container", "teacher", "--layout", "prefix:net.")
    assert lobe("run", "--backbone", "prior@a.pth", *choices, *HANDED)[0] == 0
    assert handed == [["prior@a.pth#container=teacher#layout=prefix:net."]]
    code, _, err = lobe("check-backbone", "torchvision:resnet18", "--container", "teacher")
    assert code == 2
    assert "--container is of a weights file" in err


# ------------------------------------------------------------------------------------------------------- what a person reads


def test_an_interrupt_before_the_verb_begins_is_the_sentence_too(lobe, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.terminal.prepare", interrupted)
    assert lobe("list", "suites") == (1, "", "Stopped. What is stored stays; the same command goes on from there.\n")


def test_a_checked_backbone_is_shown_with_both_scores_and_its_picture(lobe, tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    own = "normalisation={'mean': (0.1,), 'std': (2.0,)}"
    file.write_text(file.read_text().replace("embed_dim=WIDTHS[32])", f"embed_dim=WIDTHS[32], {own})"))
    monkeypatch.setattr("benchmark.check_backbone.TIMED_IMAGES", 1)
    monkeypatch.setattr("benchmark.check_backbone._both_scores", lambda *_: {"dataset statistics": 0.1234, "own statistics": 0.2})
    command = ("check-backbone", f"{file}:build", "--task", LINEAR, "--data", tmp_path, "--picture", tmp_path / "maps.png")
    code, text, _ = lobe(*command)
    text = " ".join(text.split())
    assert code == 0
    assert "dataset statistics: 12.3 (one short run: no evidence for a small difference) own statistics: 20.0 (one short run" in text
    assert f"Feature maps: {tmp_path / 'maps.png'}" in text
    assert (tmp_path / "maps.png").is_file()
    document = json.loads(lobe(*command, "--json")[1])
    assert (document["scores"]["own statistics"], document["picture"]) == (0.2, str(tmp_path / "maps.png"))


@pytest.mark.parametrize("entry", ["rsna=/data/run=1/rsna", "/data/run=1", "rsna=/data"])
def test_an_equals_sign_in_a_handed_over_path_leaves_it_a_path_from_the_root(lobe, monkeypatch, entry: str):
    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *given, lists: handed.append(given[2]) or "id")
    assert lobe("run", "--backbone", "x", "--data", entry, *HANDED)[0] == 0
    assert entry in handed[0]


def test_handing_over_needs_an_address_and_gives_the_id_as_json(lobe, monkeypatch):
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *_, **__: "raysubmit_1")
    command = ("run", "--backbone", "x", "--task", LINEAR, "--out", "/out", "--detach")
    code, text, err = lobe(*command)
    assert (code, text) == (2, "")
    assert "needs --address, the cluster's job server" in " ".join(err.split())
    code, text, _ = lobe(*command, "--address", "http://head:8265", "--json")
    assert (code, json.loads(text)) == (0, {"id": "raysubmit_1", "address": "http://head:8265"})


def test_a_sample_ends_with_what_to_do_next(lobe, tmp_path: Path, monkeypatch):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    code, text, _ = lobe("data", "sample", tmp_path, "--dataset", "rsna")
    assert code == 0
    assert f"Next: lobe run --backbone torchvision:resnet18 --task rsna-linear-frozen-100 --data {tmp_path} --limit 32" in " ".join(
        text.split()
    )


@pytest.mark.parametrize(("dataset", "said"), [("siim", "--task siim-linear-frozen-100-lobe-v1 "), ("open-i", "lobe data verify")])
def test_the_hint_below_a_sample_is_of_a_dataset_that_was_written(lobe, tmp_path: Path, monkeypatch, dataset: str, said: str):
    from benchmark.phantom import corpus

    monkeypatch.setattr(corpus, "write_corpus", lambda plan, folder, **_: corpus.Summary(folder, plan, {"images": 1}, {}))
    folder = tmp_path / "a [b] c"
    code, text, _ = lobe("data", "sample", folder, "--dataset", dataset)
    hint = next(line for line in text.splitlines() if line.startswith("Next: "))
    assert (code, said in hint, f"--data '{folder}'" in hint) == (0, True, True)
    assert "rsna" not in hint


def test_hints_quote_what_a_shell_would_cut(lobe, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = lobe("new", "backbone", "a b.py")
    assert (code, text) == (0, "Wrote a b.py. Next: lobe check-backbone 'a b.py':build\n")
    code, text, _ = lobe("new", "head", "own", "--out", "a [b]")
    assert (code, text.partition("Next: ")[2]) == (0, "lobe --include 'a [b]' new task my-own --head own --out 'a [b]'\n")


def test_the_page_of_a_report_is_named_whole_also_with_brackets_in_its_folder(lobe, tmp_path: Path, monkeypatch):
    page = tmp_path / "[bold]" / "[" / "b]" / "index.html"
    monkeypatch.setattr("benchmark.api.write_report", lambda *_, **__: SimpleNamespace(page=page, refused=(), below=0))
    assert lobe("report") == (0, f"Leaderboard: {page}\n", "")


def test_unreadable_images_are_told_a_few_and_damaged_rows_as_a_note(lobe, corpora: Path, tmp_path: Path, monkeypatch):
    import shutil

    from benchmark.cli import data

    monkeypatch.setattr(data, "SHOWN_PROBLEMS", 1)
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    images = sorted((tmp_path / "data" / "rsna" / "stage_2_train_images").glob("*.dcm"))
    for path in images[:3]:
        path.write_bytes(path.read_bytes()[:2000])
    command = ("data", "prepare", "rsna", "--data", tmp_path / "data", "--cache", tmp_path / "cache", "--workers", "1")
    code, _, err = lobe(*command)
    told = [line for line in err.splitlines() if line]
    assert code == 1
    assert images[0].stem in err
    assert images[1].stem not in err
    assert told[-1] == "And 2 more; --json lists all 3."
    (stored,) = (tmp_path / "cache" / "images").rglob("images.u8")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    _, _, err = lobe(*command)
    assert "note: " in err
    assert "damaged" in err


@pytest.mark.parametrize("failed", [0, 1])
def test_the_demo_is_run_where_it_was_asked_for_and_gives_its_code(lobe, tmp_path: Path, monkeypatch, failed: int):
    asked = []
    monkeypatch.setattr("benchmark.demo.journey.run_demo", lambda folder, executor, console: asked.append((folder, executor)) or failed)
    assert lobe("demo", tmp_path, "--executor", "inline")[0] == failed
    assert lobe("demo", tmp_path, "--executor", "slurm")[0] == 2
    assert asked == [(tmp_path, "inline")]


def test_the_doctor_tells_every_finding_and_fails_for_an_error_alone(lobe, monkeypatch):
    from benchmark import doctor

    def finding(state: str):
        return lambda: iter([doctor.Diagnosis("Python", state, "a [detail]", "mend it")])

    for state, code in (("ok", 0), ("warning", 0), ("error", 1)):
        monkeypatch.setattr(doctor, "CHECKS", {"Python": finding(state)})
        monkeypatch.setattr(doctor, "CACHE_NEEDED_BYTES", 0)
        monkeypatch.setattr(doctor, "CACHE_COMFORTABLE_BYTES", 0)
        ended, text, _ = lobe("doctor", "--json")
        assert (ended, json.loads(text)[0]) == (code, {"check": "Python", "state": state, "detail": "a [detail]", "mend": "mend it"})
        ended, text, _ = lobe("doctor")
        assert (ended, "a [detail]" in text, "mend it" in text) == (code, True, True)


def test_the_doctor_looks_at_the_cache_that_its_own_advice_names(lobe, tmp_path: Path, monkeypatch):
    """It says to name another folder with --cache."""
    monkeypatch.setattr("benchmark.doctor.CHECKS", {})
    (tmp_path / "file").touch()
    code, text, _ = lobe("doctor", "--cache", tmp_path / "file", "--json")
    assert (code, json.loads(text)[0]["detail"]) == (1, f"the cache folder {tmp_path / 'file'} cannot be written")
    _, text, _ = lobe("doctor", "--cache", tmp_path / "other", "--json")
    assert f"for the cache in {tmp_path / 'other'}" in json.loads(text)[0]["detail"]


def test_clean_says_what_it_removed(lobe, corpora: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert lobe("data", "prepare", "rsna", "--data", corpora, "--cache", cache, "--json")[0] == 0
    code, text, _ = lobe("clean", "--cache", cache, "--remove")
    assert (code, "Removed 1 caches, " in text, " MiB." in text) == (0, True, True)
    assert json.loads(lobe("clean", "--cache", cache, "--json")[1]) == []


def test_what_is_left_out_is_said_with_its_reason(capsys):
    from benchmark.cli.show import show_problems

    show_problems([SimpleNamespace(what="rsna [odd]", sentence="2 images are damaged.")])
    assert capsys.readouterr().err == "left out: rsna [odd]: 2 images are damaged.\n"
