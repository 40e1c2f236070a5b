"""A reader of run-length codes owes codes and their lines; masks, whether there is a finding, and the check of all codes follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError
from benchmark.readers.kit.coded import CodedReader

CARD = registry.dataset("siim")
ORDINARY = {"a": [(2, "1 2"), (3, "2 3")], "b": []}


class Few(CodedReader):
    """Images of four by four pixels."""

    side = 4

    def open(self) -> None:
        self.images = {name: self.root / f"{name}.png" for name in ORDINARY}
        self.codes = dict(ORDINARY)

    def row_of(self, line, sample_id):
        return f"siim: table line {line} ({sample_id})"

    def split(self, rule):
        return {}

    def checks(self):
        return ()


@pytest.fixture
def reader(tmp_path: Path) -> Few:
    (tmp_path / "table.csv").touch()
    return Few(CARD, tmp_path)


def test_masks_of_an_image_are_united_and_none_is_background(reader: Few):
    several, none = reader.sample("a"), reader.sample("b")
    assert (several.positive, none.positive) == (True, False)
    drawn = np.zeros(16, bool)
    drawn[1:5] = True  # 1 to 2 by the first code, 2 to 4 by the second, down the columns
    assert np.array_equal(several.masks((4, 4)), drawn.reshape(4, 4).T[None])
    assert not none.masks((4, 4)).any()


def test_masks_of_another_size_are_refused(reader: Few):
    with pytest.raises(ImageError, match="the image has 4 rows x 5 columns, and masks are in pixels of 4 x 4"):
        reader.sample("a").masks((4, 5))


def test_a_code_that_runs_beyond_the_image_is_told_with_its_line(reader: Few):
    assert reader.check_codes().verdict == "ok"
    reader.codes["b"] = [(7, "0 17")]
    with pytest.raises(DataError, match=r"siim: table line 7 \(b\): the run-length code ends at pixel 17"):
        reader.sample("b").masks((4, 4))
    check = reader.check_codes()
    assert (check.verdict, check.expected) == ("error", "3 readable")
    assert "line 7" in check.found
