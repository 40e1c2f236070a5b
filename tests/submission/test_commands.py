"""The verbs on the terminal: what the page on submitting shows, in small, on results that were made without training."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cards import Failure
from benchmark.integrity import sealed
from benchmark.shelf import read_record
from tests.submission.transcript import commands, tampering


@pytest.fixture
def sent(out: Path, lobe, tmp_path: Path) -> Path:
    code, said, _ = lobe("submit", "--out", out, "--to", tmp_path / "mine.zip", "--backbone", "resnet18 (mine.pt)", "--allow-phantom")
    assert (code, "4 records" in said, "a rehearsal" in said) == (0, True, True)
    return tmp_path / "mine.zip"


def test_the_transcript_holds_every_verb_of_this_file() -> None:
    said = "\n".join(commands())
    for verb in ("submit", "validate", "accept", "withdraw", "report", "data sample", "new backbone", "run"):
        assert re.search(rf"^lobe (--include \S+ )?{verb} ", said, re.M), verb


def test_generated_data_without_the_word_for_it_ends_with_a_code(out: Path, lobe, sent: Path, tmp_path: Path) -> None:
    code, _, said = lobe("submit", "--out", out, "--to", tmp_path / "other.zip")
    assert (code, "add --allow-phantom" in " ".join(said.split())) == (2, True)
    code, said, _ = lobe("validate", sent, "--json")
    document = json.loads(said)
    assert (code, document["ok"], document["trust"], len(document["faults"])) == (1, False, "recomputed", 1)


def test_a_submission_goes_from_hand_to_hand(lobe, sent: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    code, said, _ = lobe("validate", sent, "--allow-phantom")
    assert (code, "valid, level recomputed; 4 of 4 recomputed" in " ".join(said.split())) == (0, True)
    code, said, _ = lobe("accept", sent, "--to", board, "--why", "a rehearsal", "--allow-phantom", "--json")
    document = json.loads(said)
    assert (code, document["history"][0]["why"], Path(document["file"]).parent) == (0, "a rehearsal", board)
    code, said, _ = lobe("report", "--out", tmp_path / "none", "--submissions", board, "--json")
    assert (code, json.loads(said)["below"]) == (0, 0)
    code, said, _ = lobe("report", "--out", tmp_path / "none", "--submissions", board, "--trust", "re-run")
    assert code == 2  # nothing is left to report on
    code, said, _ = lobe("withdraw", document["id"], "--to", board, "--why", "it saw the test images")
    assert (code, "is withdrawn: it saw the test images" in " ".join(said.split())) == (0, True)
    assert lobe("withdraw", document["id"], "--to", board, "--why", "again")[0] == 2
    code, said, _ = lobe("list", "submissions", "--submissions", board, "--json")
    told = [(row["what"], row["id"], row["stands"], row["why"]) for row in json.loads(said)]
    assert told == [("accepted", document["id"], False, "a rehearsal"), ("withdrawn", document["id"], False, "it saw the test images")]


def test_the_tampered_copy_of_the_page_is_refused(lobe, sent: Path, tmp_path: Path) -> None:
    (tmp_path / "tamper.py").write_text(tampering())
    forged = tmp_path / "forged.zip"
    done = subprocess.run([sys.executable, tmp_path / "tamper.py", sent, forged], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code, said, errors = lobe("validate", forged, "--allow-phantom")
    assert (code, errors.count("is 0.999, and its statistics give")) == (1, 4)
    assert "refused" in said
    assert lobe("accept", forged, "--to", tmp_path / "board", "--allow-phantom")[0] == 2
    assert not (tmp_path / "board").exists()


def test_what_is_packed_accepted_and_withdrawn_is_also_one_document_each(out: Path, lobe, tmp_path: Path) -> None:
    board, first, second = tmp_path / "board", tmp_path / "first.zip", tmp_path / "second.zip"
    submit = ("submit", "--out", out, "--allow-phantom", "--json", "--to")
    code, said, _ = lobe(*submit, first, "--backbone", "resnet18 (mine.pt)")
    document = json.loads(said)
    assert (code, document["records"], document["phantom"], document["left_out"], document["missing"]) == (0, 4, True, [], [])
    assert lobe(*submit, second)[0] == 0
    code, said, _ = lobe("accept", first, "--to", board, "--allow-phantom")
    assert (code, f"Accepted {document['id']} at level recomputed" in " ".join(said.split())) == (0, True)
    both = ("accept", second, "--to", board, "--allow-phantom", "--corrects", document["id"])
    code, _, said = lobe(*both, "--supersedes", document["id"])
    assert (code, "a submission takes the place of one" in " ".join(said.split())) == (2, True)
    code, said, _ = lobe("report", "--out", out, "--submissions", board, "--trust", "re-run")
    assert (code, "4 submitted results are below the level re-run and not shown" in " ".join(said.split())) == (0, True)
    code, said, _ = lobe(*both, "--why", "more seeds")
    assert (code, f"{document['id']} is corrected: more seeds" in " ".join(said.split())) == (0, True)
    name = next(path.stem for path in board.glob("*.zip") if path.stem != document["id"])
    code, said, _ = lobe("withdraw", name, "--to", board, "--why", "a rehearsal", "--json")
    assert (code, json.loads(said)["what"], json.loads(said)["id"]) == (0, "withdrawn", name)


def test_what_is_left_out_and_missing_is_said(out: Path, lobe, tmp_path: Path) -> None:
    records = sorted((out / "records").glob("*.json"))
    failed = read_record(records[0])
    failure = Failure(kind="OSError", sentence="The disk is full.", traceback="")
    bare = {"status": "failed", "failure": failure, "metrics": {}, "predictions": (), "file_digests": {}}
    records[0].write_text(sealed(failed.model_copy(update=bare)).model_dump_json())
    code, _, said = lobe("submit", "--out", out, "--to", tmp_path / "sent.zip", "--allow-phantom")
    assert code == 0
    assert f"left out: {failed.key}: {failed.job.labels.task}: it failed and has no result" in said
    assert "incomplete: " in said
    code, _, said = lobe("validate", tmp_path / "sent.zip", "--allow-phantom")
    assert (code, "incomplete: " in said) == (1, True)
