"""The verbs on the terminal: what the page on submitting shows, in small, on results that were made without training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.submission.transcript import commands, tampering


@pytest.fixture
def sent(out: Path, lobe, tmp_path: Path) -> Path:
    code, said, _ = lobe("submit", "--out", out, "--to", tmp_path / "mine.zip", "--backbone", "resnet18 (mine.pt)", "--allow-phantom")
    assert (code, "4 records" in said, "a rehearsal" in said) == (0, True, True)
    return tmp_path / "mine.zip"


def test_the_transcript_holds_every_verb_of_this_file() -> None:
    said = "\n".join(commands())
    for verb in ("submit", "validate", "accept", "withdraw", "report", "data sample", "new backbone", "run"):
        assert f"lobe {verb} " in said


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
