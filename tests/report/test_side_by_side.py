"""The demo's picture in the terminal is the gallery's, of one image with a finding, and is left out where it could not be read."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from benchmark.kinds.base import Example
from benchmark.kinds.segmentation import draw_segmentation
from benchmark.report import gallery, side_by_side
from benchmark.report.blocks import UPPER_HALF

FRAME = 64
WORSE, BETTER = "random: Dice 1.0", "ImageNet: Dice 60.0"


def square(low: int, high: int) -> np.ndarray:
    mask = np.zeros((1, FRAME, FRAME), bool)
    mask[0, low:high, low:high] = True
    return mask


EXAMPLES = [Example(place, np.full((FRAME, FRAME), 90, np.uint8), None, mask) for place, mask in enumerate((square(0, 0), square(16, 48)))]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, SimpleNamespace]:
    """Two records whose pictures are drawn as the gallery draws them; the second image alone has a finding."""
    predicted = {WORSE: square(2, 8), BETTER: square(20, 50)}

    def draw(records, out: Path, folder: Path):
        (record,) = records
        pictures = []
        for example in EXAMPLES:
            path = folder / f"{example.index}.png"
            draw_segmentation(example.image, example.true_masks, predicted[record.key]).save(path)
            pictures.append(gallery.Picture(path))
        return {"task": {record.key: pictures}}

    monkeypatch.setattr(gallery, "draw", draw)
    monkeypatch.setattr(side_by_side, "file_of", lambda record, name, out: out / name)
    monkeypatch.setattr(side_by_side, "read_examples", lambda path: EXAMPLES)
    return {name: SimpleNamespace(key=name) for name in predicted}


def console(width: int = 80, **more) -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=width, **{"force_terminal": True, **more})


def test_both_rows_stand_side_by_side_below_their_values(rows, tmp_path: Path):
    heading, *lines, legend = side_by_side.lines(rows, tmp_path, console(color_system="truecolor"))
    assert heading.plain.split("  ")[0].startswith(WORSE)
    assert BETTER in heading.plain
    assert len(lines) == 20  # 39 columns, two cells a line
    assert {len(line) for line in lines} == {39 + 2 + 39}
    assert all(set(line.plain) == {UPPER_HALF, " "} for line in lines)
    assert legend.plain.startswith("Blue: the finding. Yellow")


@pytest.mark.parametrize("without", [{"no_color": True}, {"color_system": None}, {"color_system": "standard"}])
def test_without_colour_truth_and_prediction_are_letters(rows, tmp_path: Path, without):
    _, *lines, legend = side_by_side.lines(rows, tmp_path, console(**{"color_system": "truecolor", **without}))
    left, right = ("".join(line.plain[part] for line in lines) for part in (slice(0, 39), slice(41, None)))
    assert set("TP") < set(left)
    assert left.count("P") < right.count("P")
    assert legend.plain.startswith("T: outline of the finding. P:")


@pytest.mark.parametrize("given", [{"force_terminal": False}, {"width": 40}], ids=["pipe", "narrow"])
def test_nothing_is_drawn_where_it_could_not_be_read(rows, tmp_path: Path, given):
    assert side_by_side.lines(rows, tmp_path, console(**{"color_system": "truecolor", **given})) == []


def test_nothing_is_drawn_without_an_image_of_a_finding(rows, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(side_by_side, "read_examples", lambda path: EXAMPLES[:1])
    assert side_by_side.lines(rows, tmp_path, console(color_system="truecolor")) == []
    assert side_by_side.lines({}, tmp_path, console(color_system="truecolor")) == []


def test_nothing_is_drawn_where_the_gallery_may_draw_nothing(rows, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gallery, "draw", lambda *_: {})
    assert side_by_side.lines(rows, tmp_path, console(color_system="truecolor")) == []
