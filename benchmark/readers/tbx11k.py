"""TBX11K: boxes of tuberculosis in 512-pixel images; healthy and otherwise sick images have none.

Test labels are withheld, so the official validation list is the test set here. Lists decide which images there are, the COCO files which
boxes; where a copy has no COCO file, the XML annotations do, by the rule of the release's own script (make_json_anno.py). A copy with the
images of tuberculosis alone is a partial release. The "simplified" Kaggle version is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.imaging.picture import GreyRule, read_grey
from benchmark.readers.base import Check, Reader, Sample
from benchmark.readers.kit.box_masks import box_masks
from benchmark.readers.kit.checks import as_warning, count_checks, first_sample_check, phantom_checks, tolerated
from benchmark.readers.kit.splits import Splits, check_digests, check_disjoint
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.text import read_json, read_lines
from benchmark.readers.kit.voc import read_voc
from benchmark.readers.kit.walk import files_in, find_files, first_folder_with

SIDE = 512  # rows and columns of every image; boxes of the COCO files are in these pixels
RULE = "official validation as test, stratified holdout"
PARTS = ("train", "val")
LIST, BOXES, XML = "lists/TBX11K_{}.txt", "annotations/json/TBX11K_{}.json", "annotations/xml"
KINDS = ("health", "sick", "tb")  # folders of labelled images
LEFT_OUT = {"health", "sick"}  # by the known partial release
PARTIAL = "images of tuberculosis only"
LEAST_SIDE, LEAST_AREA = 1, 20  # pixels of 512; the release's script leaves smaller boxes out of the COCO files
CATEGORIES = {1: "ActiveTuberculosis", 2: "ObsoletePulmonaryTuberculosis", 3: "PulmonaryTuberculosis"}
KAGGLE_TABLE = "data.csv"


class DatasetReader(Reader):
    """TBX11K with its lists, and COCO files or XML annotations. The release carries no patients."""

    def open(self) -> None:
        self._base = first_folder_with(self.root, [LIST.format("train")], self.card.name)
        if self._base is None:
            simplified = first_folder_with(self.root, [KAGGLE_TABLE], self.card.name) is not None
            found = f"{self.root} looks like the simplified Kaggle version ({KAGGLE_TABLE})" if simplified else f"not in {self.root}"
            raise DataError(f"{self.card.name}: {LIST.format('train')} is missing: {found}. Expected {', '.join(self.card.files)}.")
        self._files: dict[str, str] = {}
        self._part: dict[str, str] = {}
        self._boxes: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
        from_xml = not any((self._base / BOXES.format(part)).exists() for part in PARTS) and (self._base / XML).is_dir()
        self._xml: tuple[Path, ...] = ()
        for part in PARTS:
            self._read_list(part)
        if from_xml:
            self._read_xml()
        else:
            for part in PARTS:
                self._read_boxes(part)
        found = self._find_images()
        wanted = self._files
        if {self._kind(i) for i in found} == {"tb"} and {self._kind(i) for i in self._files} > {"tb"}:
            self.partial = PARTIAL
            wanted = {i: name for i, name in self._files.items() if self._kind(i) not in LEFT_OUT}
        self._images = locate(wanted, found, self.card.name, " and ".join(LIST.format(part) for part in PARTS))
        self.release = f"lists and {'XML annotations' if from_xml else 'COCO files'}"
        if self.partial:
            self.release = f"partial release, {self.partial}: {self.release}"
            self.warnings.append(
                f"{self.card.name}: partial release, {self.partial}: {len(self._images):,} of {len(self._files):,} listed images. "
                "Never ranked, never beside numbers of the whole release."
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """File stems: the training list, then the validation list, each in file order; of a partial release those that are there."""
        return tuple(self._images)

    def sample(self, sample_id: str) -> Sample:
        if sample_id not in self._images:
            raise DataError(f"{self.card.name}: no image {sample_id!r} in {' or '.join(LIST.format(part) for part in PARTS)}.")
        boxes = np.array([box for _, box in self._boxes[sample_id]], dtype=np.float64).reshape(-1, 4)
        labels = np.array([label for label, _ in self._boxes[sample_id]], dtype=np.int64)
        return Sample(
            id=sample_id,
            patient_id=None,
            image=partial(self._image, sample_id),
            masks=partial(self._masks, sample_id, boxes, labels),
            boxes_xywh=boxes,
            box_labels=labels,
            files=(self._images[sample_id],),
            positive=len(boxes) > 0,
        )

    def label_files(self) -> tuple[Path, ...]:
        lists = tuple(self._base / LIST.format(part) for part in PARTS)
        return lists + (self._xml or tuple(self._base / BOXES.format(part) for part in PARTS))

    def image_files(self) -> tuple[Path, ...]:
        return tuple(self._images.values())

    def split(self, rule: SplitRule) -> Splits:
        """The official validation list as test set; a validation share of the training list held out by the kind of image.

        A partial release has the whole release's split without the images that are not there.

        Raises:
            SplitError: another rule, or one without its numbers; too few training images of a kind.
        """
        return {name: tuple(i for i in ids if i in self._images) for name, ids in self._split_of_lists(rule).items()}

    def _split_of_lists(self, rule: SplitRule) -> Splits:
        if rule.rule != RULE or rule.seed is None or rule.validation_share is None:
            raise SplitError(f"{self.card.name}: the split rule is {RULE!r} with seed and validation_share; found {rule.rule!r}.")
        ids = sorted(i for i, part in self._part.items() if part == "train")
        kinds = [self._kind(i) for i in ids]
        try:
            train, validation = train_test_split(
                ids, test_size=round(rule.validation_share * len(ids)), stratify=kinds, random_state=rule.seed
            )
        except ValueError as error:
            found = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS)
            raise SplitError(f"{self.card.name}: {found} training images are too few to hold out each kind ({error}).") from None
        test = tuple(i for i, part in self._part.items() if part == "val")
        splits = {"train": tuple(train), "validation": tuple(validation), "test": test}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = self._counts()
        if self.phantom is not None:
            yield from phantom_checks(self.phantom, counts, self.ids)
        else:
            lines = count_checks(self.card.expected, counts, "The file was edited or cut; fetch it again from the source in the card.")
            yield from map(self._excused, lines)
            yield from self._split_checks()
        without = sum(not self._boxes[i] for i in self._images if self._kind(i) == "tb")
        yield tolerated(self.card, "images of tuberculosis without a box", without)
        yield first_sample_check(self)

    def _excused(self, line: Check) -> Check:
        """A count that a partial release cannot have, as a warning; whatever concerns its own images stays an error."""
        left_out = ("images", *(f"{part} {what}" for part in PARTS for what in ("images", *LEFT_OUT)))
        if not self.partial or line.what not in left_out:
            return line
        return as_warning(line, f"Partial release, {self.partial}: never ranked.")

    def _split_checks(self) -> Iterator[Check]:
        for name, rule in self.card.splits.items():
            try:
                yield from check_digests(self._split_of_lists(rule), rule.expected, positive=lambda i: bool(self._boxes[i]))
            except SplitError as error:
                yield Check(name, "possible", "not possible", "error", str(error))

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read_list(self, part: str) -> None:
        path = self._base / LIST.format(part)
        if not path.is_file():
            raise DataError(f"{self.card.name}: {LIST.format(part)} is missing in {self._base}. It is part of the public release.")
        for line, text in enumerate(read_lines(path, self.card.name), start=1):
            if not text.strip():
                continue
            name = PurePosixPath(text.strip())
            where = f"{self.card.name}: {LIST.format(part)} line {line:,}"
            if len(name.parts) != 2 or name.parts[0] not in KINDS or name.suffix != ".png":
                raise DataError(f"{where}: {text.strip()!r} is no file such as tb/tb0001.png, in one of {', '.join(KINDS)}.")
            if name.stem in self._files:
                raise DataError(f"{where}: {name.stem} is already listed in {LIST.format(self._part[name.stem])}; each image stands once.")
            self._files[name.stem], self._part[name.stem], self._boxes[name.stem] = str(name), part, []

    def _read_boxes(self, part: str) -> None:
        path = self._base / BOXES.format(part)
        where = f"{self.card.name}: {BOXES.format(part)}"
        try:
            content = read_json(path, self.card.name, dict)
            images, annotations = content["images"], content["annotations"]
            names = {category["id"]: category["name"] for category in content.get("categories", ())}
            files = [(image["id"], image["file_name"], (image["height"], image["width"])) for image in images]
        except FileNotFoundError:
            raise DataError(f"{where} is missing in {self._base}. It is part of the public release.") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{where} is no COCO file of images and annotations ({type(error).__name__}: {error}). Fetch it again."
            ) from None
        if not set(names.items()) <= set(CATEGORIES.items()):
            raise DataError(f"{where}: categories {names}; expected {CATEGORIES}. Is this another version of the release?")
        known: dict[int, str] = {}
        for number, name, size in files:
            stem = PurePosixPath(str(name)).stem
            if self._files.get(stem) != name or self._part[stem] != part:
                raise DataError(f"{where}: image {name!r} is not in {LIST.format(part)}. Do the two files belong together?")
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
        if self._kind(known[image]) != "tb":
            raise DataError(f"{where}: a box of tuberculosis in an image of the folder {self._kind(known[image])}.")
        self._keep(known[image], CATEGORIES[category], (x, y, width, height), where)

    def _read_xml(self) -> None:
        """Boxes of listed images by the release's own script: corners scaled to 512, less one pixel, in float32."""
        paths = {path.stem: path for path in files_in(self._base / XML, ".xml") if path.stem in self._files}
        self._xml = tuple(paths.values())
        for stem, path in paths.items():
            annotation, where = read_voc(path, self.card.name), f"{self.card.name}: {XML}/{path.name}"
            if annotation.objects and self._kind(stem) != "tb":
                raise DataError(f"{where}: a box of tuberculosis in an image of the folder {self._kind(stem)}.")
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

    def _keep(self, stem: str, category: str, box: tuple[float, ...], where: str) -> None:
        """Adds a box (xywh in pixels of 512) to its image. Raises DataError if it has no area, leaves the image, or stands twice."""
        x, y, width, height = box
        if not all(map(math.isfinite, box)) or min(width, height) <= 0:
            raise DataError(f"{where}: box {x:g}, {y:g}, {width:g}, {height:g} has no area.")
        if min(x, y) < 0 or max(x + width, y + height) > SIDE:
            edges = f"x {x:g} to {x + width:g}, y {y:g} to {y + height:g}"
            raise DataError(f"{where}: the box leaves the image ({edges}, image 0 to {SIDE}). Are these the boxes of the XML files?")
        entry = (self.card.classes.index(category), box)
        if entry in self._boxes[stem]:
            raise DataError(f"{where}: the same box once more. Was the file merged with itself?")
        self._boxes[stem].append(entry)

    # ------------------------------------------------------------------------------------------------------------- images

    def _find_images(self) -> dict[str, tuple[Path, ...]]:
        """Files of listed images: in imgs/ as listed, or, where there is no such folder, PNG files of that name at any depth."""
        folder = self._base / "imgs"
        if folder.is_dir():
            return {i: (folder / name,) for i, name in self._files.items() if (folder / name).is_file()}
        return {i: paths for i, paths in find_files(self.root, ".png").items() if i in self._files}

    def _image(self, sample_id: str) -> np.ndarray:
        pixels = read_grey(self._images[sample_id], sample_id, GreyRule.LUMA)
        self._require_size(pixels.shape, sample_id)
        return pixels

    def _masks(self, sample_id: str, boxes: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        self._require_size(shape, sample_id)
        return box_masks(boxes, labels, len(self.card.classes), shape)

    def _require_size(self, shape: tuple[int, ...], sample_id: str) -> None:
        if tuple(shape) != (SIDE, SIDE):
            raise ImageError(
                f"{self._images[sample_id]} (id {sample_id}): {shape[0]} rows x {shape[1]} columns, but boxes are in pixels of "
                f"{SIDE} x {SIDE}. Is this a resized copy? LOBE needs the original size."
            )

    def _kind(self, sample_id: str) -> str:
        """The folder: health, sick or tb."""
        return self._files[sample_id].partition("/")[0]

    def _counts(self) -> dict[str, int]:
        counts = {"images": len(self._images), "boxes": sum(len(self._boxes[i]) for i in self._images)}
        counts["positives"] = sum(bool(self._boxes[i]) for i in self._images)
        for part in PARTS:
            ids = [i for i in self._images if self._part[i] == part]
            counts[f"{part}_images"] = len(ids)
            counts |= {f"{part}_{kind}": sum(self._kind(i) == kind for i in ids) for kind in KINDS}
        counts["unlabelled_images"] = len(files_in(self._base / "imgs" / "test", ".png"))
        if self.phantom is not None:
            patients = self.phantom_patients()
            counts["patients"] = len(set(patients.values()))
        return counts
