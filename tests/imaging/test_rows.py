"""What one row of the image cache says of images that have none."""

from __future__ import annotations

import pytest

from benchmark.errors import ImageChanged, ImageError
from benchmark.imaging.rows import Bad, error_of

DAMAGED, MOVED = Bad("a", "a.png is cut off."), Bad("b", "b.png changed while it was decoded.", changed=True)


@pytest.mark.parametrize(("bad", "kind"), [([DAMAGED], ImageError), ([MOVED], ImageChanged), ([*[DAMAGED] * 4, MOVED], ImageChanged)])
def test_images_fail_their_job_for_good_only_where_no_file_changed(bad: list[Bad], kind: type[ImageError]) -> None:
    assert type(error_of(bad, "toy")) is kind


def test_the_first_three_images_are_named_and_all_are_counted() -> None:
    assert str(error_of([DAMAGED], "toy")) == "a.png is cut off."
    assert str(error_of([DAMAGED, MOVED] * 2, "toy")).endswith("a.png is cut off. And 1 more: 4 unreadable images of toy in all.")
