"""A reader to start from, with the card of its dataset: they read a table of boxes and images beside it as they stand."""

from __future__ import annotations

from pathlib import Path

from benchmark import registry
from benchmark.errors import UsageError
from benchmark.scaffold.own_files import Started, module_name, start

_MODULE = '''\
"""A reader: how a folder of data becomes images with their ground truth. This one reads `boxes.csv` and PNG files beside it.

    image,patient,part,x,y,width,height      a row a box; an image without a finding has one row and no numbers
    img-001,p-07,train,120,88,60,42          `part` is train or test; validation is held out of train

What a reader owes: a class `DatasetReader` (benchmark/readers/base.py); what readers share is in benchmark/readers/kit. It reads label
files when it is opened and images when they are asked for, writes nothing into the data folder, and raises DataError with file and line for
what cannot be. This file and what it imports from its folder is part of the keys of all jobs on its dataset.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.readers.base import Check
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import numbers_of
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.tables import locate, read_table, rows_by_name
from benchmark.readers.kit.walk import find_files

TABLE, COLUMNS = "boxes.csv", ("image", "patient", "part", "x", "y", "width", "height")


class DatasetReader(BoxedReader):
    """An id is the stem of an image's file; masks are filled boxes."""

    def open(self) -> None:
        folder = self.folder_with(TABLE)
        self.tables = (folder / TABLE,)  # files that decide ids, boxes and splits
        self._patients: dict[str, str] = {}
        self.subset = {}  # id -> train or test
        listed: dict[str, list[tuple[int, tuple[float, ...]]]] = {}  # id -> (class, xywh in pixels of the original image)
        for line, row in rows_by_name(read_table(folder / TABLE, self.card.name), COLUMNS, self.card.name):
            cells = [row[name] for name in COLUMNS[3:]]
            where = f"{self.card.name}: {TABLE} line {line:,}"
            boxes = [(0, numbers_of(cells, "x, y, width, height", where))] if any(cells) else []
            listed.setdefault(row["image"], []).extend(boxes)
            self._patients[row["image"]], self.subset[row["image"]] = row["patient"], row["part"]
        self.boxes = {i: boxes_of(boxes) for i, boxes in listed.items()}
        self.images = locate(self.boxes, find_files(folder, ".png"), self.card.name, TABLE)
        self.release = "first edition"

    def patient_of(self, sample_id: str) -> str | None:
        return self._patients[sample_id]

    def checks(self) -> Iterable[Check]:
        """Lines of `lobe data verify`: counts that the card expects, the splits, and one image that is opened."""
        counts = {"images": len(self.images), "boxes": sum(map(self.n_boxes, self.ids)), "patients": len(set(self._patients.values()))}
        yield from release_checks(self, counts, "Is the copy complete?")
        yield from split_checks(self, patient_of=self._patients.get)
        yield first_sample_check(self)
'''
_CARD = """\
# The dataset that readers/@MODULE@.py reads. All keys: benchmark/cards/datasets.py.
datasets:
  - name: @NAME@ # as tasks and `--data @NAME@=FOLDER` call it
    title: @NAME@
    reader: @MODULE@
    source: your own
    licence: your own
    redistribution: none # what may leave the output folder: none, ids, open
    folder: @NAME@ # below the folder that --data names
    shares_with: {} # images that it shares with others, such as {nih-cxr: images}

    classes: [opacity] # in the order of the reader's class numbers
    targets: [masks, boxes]
    mask_source: boxes # filled boxes; masks where a person drew outlines
    intensity: as-stored # or equalised
    statistics: {mean: [0.5], std: [0.25]} # of the training images, in 0..1
    patients_known: true

    files:
      boxes.csv: a row a box
      IMAGE.png: an image

    splits:
      official:
        rule: official test, stratified holdout
        seed: 0
        validation_share: 0.25
"""


def new(name: str, folder: Path) -> Started:
    """Writes `readers/<name>.py` and `datasets/<name>.yaml`. Raises UsageError where the name cannot be one or is taken."""
    module = module_name("readers", name)
    dataset = module.replace("_", "-")
    if dataset in registry.datasets():
        raise UsageError(f"There is a dataset {dataset} already: take another name.")
    texts = {f"readers/{module}.py": _MODULE, f"datasets/{module}.yaml": _CARD.replace("@NAME@", dataset).replace("@MODULE@", module)}
    return start(folder, texts, f"lobe --include {{folder}} data verify {dataset} --data {dataset}=FOLDER")
