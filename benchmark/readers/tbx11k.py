"""TBX11K: boxes of tuberculosis in 512-pixel images; healthy and otherwise sick images have none.

Test labels are withheld, so the official validation list is the test set here. Lists decide which images there are, the COCO files which
boxes; where a copy has no COCO file, the XML annotations do, by the rule of the release's own script (make_json_anno.py). A copy with the
images of tuberculosis alone is a partial release. The "simplified" Kaggle version is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.readers.base import Check
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import require_box
from benchmark.readers.kit.checks import as_warning, first_sample_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.splits import Splits
from benchmark.readers.kit.tables import locate, released
from benchmark.readers.kit.text import numbered_lines, read_json
from benchmark.readers.kit.voc import read_voc
from benchmark.readers.kit.walk import files_in, find_files

SIDE = 512  # rows and columns of every image; boxes of the COCO files are in these pixels
SUBSETS = ("train", "val")
LIST, BOXES, XML = "lists/TBX11K_{}.txt", "annotations/json/TBX11K_{}.json", "annotations/xml"
KINDS = ("health", "sick", "tb")  # folders of labelled images
LEFT_OUT = {"health", "sick"}  # by the known partial release
PARTIAL = "images of tuberculosis only"
LEAST_SIDE, LEAST_AREA = 1, 20  # pixels of 512; the release's script leaves smaller boxes out of the COCO files
CATEGORIES = {1: "ActiveTuberculosis", 2: "ObsoletePulmonaryTuberculosis", 3: "PulmonaryTuberculosis"}
KAGGLE_TABLE = "data.csv"


class DatasetReader(BoxedReader):
    """TBX11K with its lists, and COCO files or XML annotations. The release carries no patients."""

    side, rule, tested = SIDE, "official validation as test, stratified holdout", "val"

    def open(self) -> None:
        self._base = self.folder_with(LIST.format("train"), look_alikes={KAGGLE_TABLE: "This looks like the simplified Kaggle version."})
        self._files: dict[str, str] = {}
        self.subset = {}
        self._listed: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
        lists = tuple(map(self._read_list, SUBSETS))
        from_xml = not any((self._base / BOXES.format(subset)).exists() for subset in SUBSETS) and (self._base / XML).is_dir()
        self.tables = lists + (self._read_xml() if from_xml else tuple(map(self._read_boxes, SUBSETS)))
        self.boxes = {i: boxes_of(listed) for i, listed in self._listed.items()}
        found = self._find_images()
        wanted = self._files
        if {self.kind_of(i) for i in found} == {"tb"} and {self.kind_of(i) for i in self._files} > {"tb"}:
            self.partial = PARTIAL
            wanted = {i: name for i, name in self._files.items() if self.kind_of(i) not in LEFT_OUT}
        self.images = locate(wanted, found, self.card.name, " and ".join(LIST.format(subset) for subset in SUBSETS))
        self.release = f"lists and {'XML annotations' if from_xml else 'COCO files'}"
        if self.partial:
            self.release = f"partial release, {self.partial}: {self.release}"
            self.warnings.append(
                f"{self.card.name}: partial release, {self.partial}: {len(self.images):,} of {len(self._files):,} listed images. "
                "Never ranked, never beside numbers of the whole release."
            )

    def split(self, rule: SplitRule) -> Splits:
        """The official validation list as test set; a validation share of the training list held out by the kind of image.

        A partial release has the whole release's split without the images that are not there.

        Raises:
            SplitError: another rule, or one without its numbers; too few training images of a kind.
        """
        return {name: tuple(i for i in ids if i in self.images) for name, ids in super().split(rule).items()}

    def checks(self) -> Iterable[Check]:
        lines = release_checks(self, self._counts(), "The file was edited or cut; fetch it again from the source in the card.")
        yield from map(self._excused, lines)
        yield from split_checks(self, positive=self.is_positive, split=super().split)
        without = sum(not self.is_positive(i) for i in self.images if self.kind_of(i) == "tb")
        yield tolerated(self.card, "images of tuberculosis without a box", without)
        yield first_sample_check(self)

    def _excused(self, line: Check) -> Check:
        """Turns a count that a partial release cannot have into a warning; a fault of its own images stays an error."""
        left_out = ("images", *(f"{subset} {what}" for subset in SUBSETS for what in ("images", *LEFT_OUT)))
        if not self.partial or self.phantom is not None or line.what not in left_out:
            return line
        return as_warning(line, f"Partial release, {self.partial}: never ranked.")

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read_list(self, subset: str) -> Path:
        path = released(self._base, LIST.format(subset), self.card.name)
        for line, text in numbered_lines(path, self.card.name):
            name = PurePosixPath(text.strip())
            where = f"{self.card.name}: {LIST.format(subset)} line {line:,}"
            if len(name.parts) != 2 or name.parts[0] not in KINDS or name.suffix != ".png":
                raise DataError(f"{where}: {text.strip()!r} is no file such as tb/tb0001.png, in one of {', '.join(KINDS)}.")
            if name.stem in self._files:
                first = LIST.format(self.subset[name.stem])
                raise DataError(f"{where}: {name.stem} is already listed in {first}; each image stands once.")
            self._files[name.stem], self.subset[name.stem], self._listed[name.stem] = str(name), subset, []
        return path

    def _read_boxes(self, subset: str) -> Path:
        path = released(self._base, BOXES.format(subset), self.card.name)
        where = f"{self.card.name}: {BOXES.format(subset)}"
        try:
            content = read_json(path, self.card.name, dict)
            images, annotations = content["images"], content["annotations"]
            names = {category["id"]: category["name"] for category in content.get("categories", ())}
            files = [(image["id"], image["file_name"], (image["height"], image["width"])) for image in images]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{where} is no COCO file of images and annotations ({type(error).__name__}: {error}). Fetch it again."
            ) from None
        if not set(names.items()) <= set(CATEGORIES.items()):
            raise DataError(f"{where}: categories {names}; expected {CATEGORIES}. Is this another version of the release?")
        known: dict[int, str] = {}
        for number, name, size in files:
            stem = PurePosixPath(str(name)).stem
            if self._files.get(stem) != name or self.subset[stem] != subset:
                raise DataError(f"{where}: image {name!r} is not in {LIST.format(subset)}. Do the two files belong together?")
            if number in known or stem in known.values():
                raise DataError(f"{where}: image {name!r} (id {number}) stands twice, or shares its id with another.")
            if size != (SIDE, SIDE):
                raise DataError(
                    f"{where}: image {name!r} has {size[0]} rows x {size[1]} columns, expected {SIDE} x {SIDE}: boxes are in its pixels."
                )
            known[number] = stem
        seen: set[Any] = set()
        for annotation in annotations:
            self._add(annotation, known, seen, where)
        return path

    def _add(self, annotation: dict[str, Any], known: dict[int, str], seen: set[Any], where: str) -> None:
        try:
            number, image, category, box = (annotation[key] for key in ("id", "image_id", "category_id", "bbox"))
            x, y, width, height = map(float, box)
        except (TypeError, KeyError, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            raise DataError(f"{where}: annotation {annotation!r:.80} lacks id, image_id, category_id or bbox ({found}).") from None
        where = f"{where}: annotation {number}"
        if number in seen:
            raise DataError(f"{where} stands twice; each id is one box.")
        seen.add(number)
        if image not in known:
            raise DataError(f"{where} is of image {image}, which the file does not list.")
        where = f"{where} ({known[image]})"
        if category not in CATEGORIES or CATEGORIES[category] not in self.card.classes:
            raise DataError(f"{where}: category {category}; expected one of {', '.join(f'{k} {name}' for k, name in CATEGORIES.items())}.")
        if self.kind_of(known[image]) != "tb":
            raise DataError(f"{where}: a box of tuberculosis in an image of the folder {self.kind_of(known[image])}.")
        self._keep(known[image], CATEGORIES[category], (x, y, width, height), where)

    def _read_xml(self) -> tuple[Path, ...]:
        """Boxes of listed images by the release's own script: corners scaled to 512, less one pixel, in float32."""
        paths = {path.stem: path for path in files_in(self._base / XML, ".xml") if path.stem in self._files}
        for stem, path in paths.items():
            annotation, where = read_voc(path, self.card.name), f"{self.card.name}: {XML}/{path.name}"
            if annotation.objects and self.kind_of(stem) != "tb":
                raise DataError(f"{where}: a box of tuberculosis in an image of the folder {self.kind_of(stem)}.")
            for number, found in enumerate(annotation.objects, start=1):
                if found.name not in CATEGORIES.values() or found.name not in self.card.classes:
                    raise DataError(f"{where}: object {number} is called {found.name!r}; expected one of {', '.join(CATEGORIES.values())}.")
                scale = np.array(annotation.size * 2) / SIDE
                x_min, y_min, x_max, y_max = (np.array(found.corners) / scale - 1).astype(np.float32)
                width, height = x_max - x_min, y_max - y_min
                large = min(width, height) >= LEAST_SIDE and width * height >= LEAST_AREA
                if large and not found.difficult:
                    box = tuple(map(float, (x_min, y_min, width, height)))
                    self._keep(stem, found.name, box, f"{where}: object {number} ({stem})")
        return tuple(paths.values())

    def _keep(self, stem: str, category: str, box: tuple[float, ...], where: str) -> None:
        """Adds a box (xywh in pixels of 512) to its image. Raises DataError if it has no area, leaves the image, or stands twice."""
        require_box(box, SIDE, where)
        entry = (self.card.classes.index(category), box)
        if entry in self._listed[stem]:
            raise DataError(f"{where}: the same box once more. Was the file merged with itself?")
        self._listed[stem].append(entry)

    # ------------------------------------------------------------------------------------------------------------- images

    def _find_images(self) -> dict[str, tuple[Path, ...]]:
        """Files of listed images: in imgs/ as listed, or, where there is no such folder, PNG files of that name at any depth."""
        folder = self._base / "imgs"
        if folder.is_dir():
            return {i: (folder / name,) for i, name in self._files.items() if (folder / name).is_file()}
        return {i: paths for i, paths in find_files(self.root, ".png").items() if i in self._files}

    def kind_of(self, sample_id: str) -> str:
        """The folder: health, sick or tb."""
        return self._files[sample_id].partition("/")[0]

    def _counts(self) -> dict[str, int]:
        counts = {"images": len(self.images), "boxes": sum(map(self.n_boxes, self.images))}
        counts["positives"] = sum(map(self.is_positive, self.images))
        for subset in SUBSETS:
            ids = [i for i in self.images if self.subset[i] == subset]
            counts[f"{subset}_images"] = len(ids)
            counts |= {f"{subset}_{kind}": sum(self.kind_of(i) == kind for i in ids) for kind in KINDS}
        counts["unlabelled_images"] = len(files_in(self._base / "imgs" / "test", ".png"))
        return counts
