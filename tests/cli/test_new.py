"""`lobe new` writes a file whole or not at all, and names what to do next."""

from __future__ import annotations

from pathlib import Path

from tests.full_disk import full_disk


def test_a_disk_without_room_ends_with_a_sentence_and_two_and_leaves_no_part(lobe, tmp_path: Path, capsys):
    capsys.readouterr()
    with full_disk():
        code, text, err = lobe("new", "backbone", tmp_path / "mine.py")
    assert (code, text) == (2, "")
    assert err.startswith(f"error: No room left on the disk for {tmp_path / 'mine.py'} (File too large). Make room, or choose a folder")
    assert list(tmp_path.iterdir()) == []
    assert lobe("new", "backbone", tmp_path / "mine.py")[0] == 0


def test_hints_quote_what_a_shell_would_cut(lobe, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = lobe("new", "backbone", "a b.py")
    assert (code, text) == (0, "Wrote a b.py. Next: lobe check-backbone 'a b.py':build\n")
    code, text, _ = lobe("new", "head", "own", "--out", "a [b]")
    assert (code, text.partition("Next: ")[2]) == (0, "lobe --include 'a [b]' new task my-own --head own --out 'a [b]'\n")
