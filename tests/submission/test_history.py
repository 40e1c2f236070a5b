"""The public history: lines are added, and nothing of what was said can be changed unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.errors import StoreError, UsageError
from benchmark.submission.history import HISTORY, append, entry, read, standing
from benchmark.submission.trust import Trust

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append(tmp_path, [entry("accepted", ONE, "sent in", trust=Trust.RECOMPUTED, levels={"a-task": Trust.RECOMPUTED})])
    append(tmp_path, [entry("accepted", TWO, "sent in"), entry("superseded", ONE, "more seeds", by=TWO[:12])])
    return tmp_path


def test_what_was_added_is_read_in_its_order(folder: Path) -> None:
    found = read(folder)
    assert [(one.what, one.id) for one in found] == [("accepted", ONE[:12]), ("accepted", TWO[:12]), ("superseded", ONE[:12])]
    assert found[0].levels == {"a-task": Trust.RECOMPUTED}
    assert set(standing(found)) == {TWO[:12]}


def test_no_folder_has_no_history(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []


def test_a_withdrawn_submission_may_be_accepted_again(folder: Path) -> None:
    append(folder, [entry("accepted", ONE, "was right after all")])
    assert set(standing(read(folder))) == {ONE[:12], TWO[:12]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: [lines[0].replace("sent in", "sent on"), *lines[1:]], "line 2 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: [lines[0], lines[2]], "line 2 does not follow"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 does not follow"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "line 2 does not follow"),
        (lambda lines: [*lines, "{}"], "line 4 is none of a history"),
        (lambda lines: [*lines, "[" * 10_000], "line 4 is none of a history"),
        (lambda lines: ["", *lines], "line 1 is none of a history"),
    ],
    ids=["edited", "first dropped", "dropped", "swapped", "doubled", "other", "nested", "empty"],
)
def test_an_edited_history_is_refused_at_the_line(folder: Path, change, sentence: str) -> None:
    path = folder / HISTORY
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    with pytest.raises(StoreError, match=sentence):
        read(folder)


@pytest.mark.parametrize("letter", ["\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_reason_stands_in_one_line(tmp_path: Path, letter: str) -> None:
    append(tmp_path, [entry("accepted", ONE, f" sent in{letter}by mail ")])
    append(tmp_path, [entry("withdrawn", ONE, "a rehearsal")])
    assert [one.why for one in read(tmp_path)] == ["sent in by mail", "a rehearsal"]


@pytest.mark.parametrize(
    ("why", "sentence"), [("sent\x1b[2J", "cannot be seen"), ("sent\u202eni", "turn the text round"), ("x" * 4001, "longer than 4000")]
)
def test_a_reason_of_letters_that_are_not_what_they_seem_is_refused(why: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        entry("accepted", ONE, why)


@pytest.mark.parametrize("letter", ["\x85", "\u2028", "\u2029"])
def test_a_line_that_an_earlier_release_wrote_with_a_break_of_another_kind_is_read_and_gone_on_from(tmp_path: Path, letter: str) -> None:
    append(tmp_path, [entry("accepted", ONE, "x").model_copy(update={"why": f"sent in{letter}by mail"})])
    append(tmp_path, [entry("withdrawn", ONE, "a rehearsal")])
    assert [one.why for one in read(tmp_path)] == [f"sent in{letter}by mail", "a rehearsal"]


def test_a_line_of_an_earlier_release_without_a_later_field_is_gone_on_from(tmp_path: Path) -> None:
    (earlier,) = append(tmp_path, [entry("accepted", ONE, "sent in")])
    short = {name: value for name, value in earlier.model_dump(mode="json").items() if name not in ("truths", "levels", "by", "incomplete")}
    (tmp_path / HISTORY).write_text(f"{json.dumps(short)}\n")
    append(tmp_path, [entry("accepted", TWO, "sent in")])
    assert [one.id for one in read(tmp_path)] == [ONE[:12], TWO[:12]]


def test_a_line_with_a_field_of_a_newer_release_says_so(folder: Path) -> None:
    path = folder / HISTORY
    path.write_text(path.read_text().replace('"backbones"', '"of_later":1,"backbones"', 1))
    with pytest.raises(StoreError, match="line 1 was written by a newer LOBE"):
        read(folder)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (entry("accepted", TWO, "again"), "is accepted already"),
        (entry("withdrawn", ONE, "again"), "is not among those that are accepted"),
        (entry("withdrawn", "3" * 64, "never was there"), "is not among those that are accepted"),
        (entry("accepted", "3" * 64, "x").model_copy(update={"id": "4" * 12}), "is not how its digest begins"),
    ],
)
def test_what_cannot_be_is_not_written(folder: Path, line, sentence: str) -> None:
    before = (folder / HISTORY).read_bytes()
    with pytest.raises(UsageError, match=sentence):
        append(folder, [line])
    assert (folder / HISTORY).read_bytes() == before


def test_a_history_that_cannot_be_read_or_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_bytes(b"\xff\n")
    with pytest.raises(StoreError, match=r"cannot be read .*Bring it back from the repository"):
        read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        append(tmp_path / "file", [entry("accepted", ONE, "sent in")])
