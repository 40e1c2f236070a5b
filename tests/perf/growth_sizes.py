"""How large what `lobe bench growth` measures is: in full, in a miniature, and as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmark.errors import UsageError

AGAINST = "8c8d211"  # the last commit whose predictions were JSON and whose features were each head's own
N_RECORDED, RECORDED = 5, ("rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100")
"""Seeds and tasks of a store of made records."""


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        images: `--limit`s.
        records: in a store; multiples of `RECORDS_A_BACKBONE`.
        lists: frontal images of MIMIC-CXR's list.
        steps: of a run, by head: those of the smoke profile. Fewer leave a detector with more boxes than a run has.
        steps_together: of the runs of several tasks in one command: few, so that what is shared weighs.
        boxes: made on each image of one run.
        boxes_of_a_record: of each record of a store.
    """

    images: tuple[int, ...]
    records: tuple[int, ...]
    lists: tuple[int, ...]
    steps: Mapping[str, int]
    steps_together: Mapping[str, int]
    boxes: int
    boxes_of_a_record: int


RECORDS_A_BACKBONE = len(RECORDED) * N_RECORDED
FULL = Sizes(
    (200, 800, 3200), (1000, 4000), (23_569, 94_277, 377_110), {"linear": 100, "yolov3": 40}, {"linear": 20, "yolov3": 2}, 1150, 10
)
QUICK = Sizes((16, 64), (20, 80), (500, 2000), {"linear": 4, "yolov3": 2}, {"linear": 4, "yolov3": 2}, 50, 5)


def chosen(asked: Mapping[str, str], *, quick: bool) -> tuple[Sizes, str]:
    """Sizes and the commit before, by options of the command line.

    Raises:
        UsageError: sizes that are no rising numbers, or a store that does not come out even.
    """
    sizes = QUICK if quick else FULL
    for option, name, at_least in (("--sizes", "images", 8), ("--records", "records", RECORDS_A_BACKBONE), ("--lists", "lists", 50)):
        if option in asked:
            sizes = replace(sizes, **{name: _rising(option, asked[option], at_least)})
    if uneven := [n for n in sizes.records if n % RECORDS_A_BACKBONE]:
        raise UsageError(f"--records {uneven[0]}: a made backbone has {RECORDS_A_BACKBONE} records; give a multiple of that.")
    return sizes, asked.get("--against", AGAINST)


def _rising(option: str, text: str, at_least: int) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < at_least or list(numbers) != sorted(set(numbers)):
        raise UsageError(f"{option} {text!r}: rising whole numbers of at least {at_least} are expected, like 200,800,3200.")
    return numbers
