"""What every verb shows alike."""

from __future__ import annotations

from types import SimpleNamespace


def test_what_is_left_out_is_said_with_its_reason(capsys):
    from benchmark.cli.show import show_problems

    show_problems([SimpleNamespace(what="rsna [odd]", sentence="2 images are damaged.")])
    assert capsys.readouterr().err == "left out: rsna [odd]: 2 images are damaged.\n"
