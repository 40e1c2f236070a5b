"""What the generic readers share: images, patients, splits, and what is odd about a folder that nobody prepared for this.

A reader finds its annotations in `read`; everything it meets that a release would not have goes into `odd`, is told as a warning, and has a
rule. `audit` decodes every image, for `lobe data verify` alone.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np

from benchmark.cards import SplitRule, canonical_json
from benchmark.cards.own_data import OwnData
from benchmark.cards.own_split import OWN_SPLIT, OwnSplit, SplitName
from benchmark.errors import DataError, SplitError
from benchmark.imaging.any_picture import read_image
from benchmark.readers.base import SPLITS, Check
from benchmark.readers.kit.blanks import patient_named
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import release_checks
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.oddities import Oddities
from benchmark.readers.kit.own_audit import audit
from benchmark.readers.kit.own_images import ImageFiles, header_size
from benchmark.readers.kit.own_splits import by_folder, own_splits
from benchmark.readers.kit.splits import Splits
from benchmark.readers.kit.text import numbered_lines
from benchmark.readers.kit.walk import names_in

Block = TypeVar("Block", bound=OwnData)
TWO_SPLITS, TWO_PATIENTS = "images in two splits", "images of two patients"


class OwnReader(ImageReader, Generic[Block]):
    """Base of the generic readers. The id of an image is its path below the folder of images.

    Attributes:
        own: the card's block.
        odd: what is odd, by kind.
        drawn_on: id -> (height, width) of the picture that its labels were drawn on; other sizes are refused when an image is decoded.
        doubted: (what, image) where label files say two things, or something that the card does not know, and a rule decides.
        read_anew: what occurs here that LOBE once read otherwise: same files, another result.
        looked_for: kinds of oddities (`oddities.RULES`) that this reader can meet.
    """

    looked_for: ClassVar[tuple[str, ...]] = ()

    def open(self) -> None:
        if self.card.own is None or self.card.split is None:
            raise DataError(f"{self.card.name}: the card has no block `{self.card.reader}:` for its reader.")
        self.own: Block = self.card.own  # type: ignore[assignment]
        self.odd = Oddities(self.looked_for)
        self.tables = ()
        self.drawn_on: dict[str, tuple[int, int]] = {}
        self._columns: dict[str, str] = {}
        self._patients: dict[str, str] = {}
        self._spelt: dict[str, str] = {}  # patient as written -> as named
        self.doubted: set[tuple[str, str]] = set()
        self.read_anew: set[str] = set()
        self._all: tuple[str, ...] = ()
        self._numbers: dict[str, int] = {}
        found = self.read()
        left_out = set(self.own.leave_out)
        if unknown := sorted(left_out - set(self._all)):
            raise DataError(f"{self.card.name}: `leave_out` names {len(unknown):,} images that are not there, first {unknown[0]}.")
        self.images = {place: path for place, path in found.items() if place not in left_out and (TWO_PATIENTS, place) not in self.doubted}
        if not self.images:
            why = "; ".join(f"{len(places):,} {what}" for what, places in self.odd.places.items() if places) or "nothing lists one"
            raise DataError(f"{self.card.name}: not one image of {self.root} can be used: {why}.")
        self._require_own_labels()
        self._find_patients()
        self._given = self._splits_given()
        self.release = f"own data, {len(self.images):,} images"
        self.warnings += self.odd.warnings(self.card.name)

    @abstractmethod
    def read(self) -> Mapping[str, Path]:
        """Reads the labels; image files by id, in the order of ids. Sets `tables`, and `odd` as it goes."""

    # ------------------------------------------------------------------------------------------------- for readers to call

    def image_files_in(self, folder: str, but: Iterable[Path] = ()) -> ImageFiles:
        files = ImageFiles(self.root, folder, self.card.name, but)
        self._all, self._numbers = tuple(files.paths), {}
        return files

    def file(self, name: str, key: str) -> Path:
        """A file that the card names by its place in the folder. Raises DataError with the card's key, and what lies beside it."""
        path = self.root / name
        if not path.is_file():
            beside = ", ".join(sorted(names_in(path.parent))[:8]) or "nothing"
            raise DataError(f"{self.card.name}: no file {name} in {self.root}, which the card names in `{key}`. There: {beside}.")
        return path

    def called(self, place: str) -> str:
        """An image for sentences: by its path, or by its place in the order of paths where names are withheld."""
        if self.names_files:
            return place
        self._numbers = self._numbers or {place: number for number, place in enumerate(self._all, start=1)}
        return f"image {self._numbers.get(place, 0):,} of {len(self._all):,}"

    def usable(self, place: str, path: Path, listed: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """(height, width) in pixels by the image's header; None where it cannot be opened, or is not as `listed`, which is odd."""
        size = header_size(path, place)
        if size is None:
            self.odd.add("images that cannot be opened", self.called(place))
        elif listed is not None and size != listed:
            self.odd.add(
                "images of another size than listed", f"{self.called(place)}, {size[1]} x {size[0]} for {listed[1]} x {listed[0]} listed"
            )
        else:
            self.drawn_on[place] = size
            return size
        return None

    def say_patient(self, place: str, patient: object) -> None:
        """What a label file says of an image's patient; what `blanks` calls empty says nothing."""
        if patient is None:
            return
        said = self._spelt.setdefault(str(patient).strip(), patient_named(patient))
        if said and said != self._patients.setdefault(place, said):
            self._doubt(TWO_PATIENTS, place)

    def say_column(self, place: str, value: str) -> None:
        """What the column of the card's `split` says of an image; empty says nothing."""
        split = self.card.split
        if not value.strip() or split is None:
            return
        first = self._columns.setdefault(place, value)
        if split.split_of(first) != split.split_of(value):
            self._doubt(TWO_SPLITS, place)

    # ------------------------------------------------------------------------------------------------------ of every reader

    def patient_of(self, sample_id: str) -> str | None:
        return self._patients.get(sample_id)

    def decode(self, sample_id: str) -> np.ndarray:
        pixels = read_image(self.images[sample_id], sample_id)
        if sample_id in self.drawn_on:
            require_size(pixels.shape, self.drawn_on[sample_id], self.where_of(sample_id), of="labels")
        return pixels

    def decided(self) -> str:
        """The card's block and split: values, columns and patterns decide masks, labels, patients and lists."""
        split = None if self.card.split is None else self.card.split.model_dump(mode="json")
        said = {self.card.reader: self.own.model_dump(mode="json"), "split": split}
        # Of two rows of an image the last was taken once, and a finding that the card does not know for none: same files, another result.
        anew = {*self.read_anew, *self._patients_anew()}
        return canonical_json(said | ({"doubted": 2} if self.doubted else {}) | ({"read_anew": sorted(anew)} if anew else {}))

    def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
        """As of every reader, and what the card decides: masks that other values mean are another cache."""
        return hashlib.sha256(f"{super().outline_digest(sizes)}\n{self.decided()}".encode()).hexdigest()

    def split(self, rule: SplitRule) -> Splits:
        """The split that the card's `split` says.

        Raises:
            SplitError: another rule; too few images; a split that the card says, without an image.
        """
        known = self.card.splits.get(OWN_SPLIT)
        if known is None or rule.rule != known.rule:
            raise SplitError(f"{self.card.name}: there is no split rule {rule.rule!r} here; `split` of the card says how images are split.")
        return self._made

    def kinds_shown(self, sample_id: str) -> Iterable[str]:
        """Classes that an image shows, as far as label files tell; counted by `checks`."""
        return ()

    def counts(self) -> dict[str, int]:
        """What else than images a reader counts, by name."""
        return {}

    def checks(self) -> Iterable[Check]:
        counts = {"images": len(self.images), **self.counts()}
        if self._patients:
            counts["patients"] = len(set(self._patients.values()))
        yield from release_checks(self, counts, "The card's `expected` says otherwise.")
        for name, number in counts.items():
            if name not in self.card.expected:
                yield Check(name, "any", f"{number:,}", "ok")
        shown = Counter(kind for i in self.images for kind in set(self.kinds_shown(i)))
        if shown:
            listed = ", ".join(f"{name} {shown[name]:,}" for name in self.card.classes)
            absent = [name for name in self.card.classes if not shown[name]]
            hint = f"No image shows {', '.join(absent)}: is the name spelt as in the label file?" if absent else ""
            yield Check("images by class", "each class in some", listed, "warning" if absent else "ok", hint)
        yield from self.odd.checks()

    def audit(self) -> Iterable[Check]:
        """What only decoding every image shows."""
        return (found.check() for found in audit(self, self._splits_if_possible(), self.called))

    def odd_places(self) -> Iterator[tuple[str, str]]:
        """Every oddity with its place, those that only decoding shows as well; they name images as far as the card allows it."""
        for what, places in self.odd.places.items():
            yield from ((what, place) for place in places)
        for found in audit(self, self._splits_if_possible(), self.called):
            yield from ((found.what, place) for place in found.places)

    # ------------------------------------------------------------------------------------------------------------- private

    def _doubt(self, what: str, place: str) -> None:
        if (what, place) not in self.doubted:
            self.doubted.add((what, place))
            self.odd.add(what, self.called(place))

    def _patients_anew(self) -> Iterator[str]:
        """Tells that an empty word was a patient once, or one patient of two spellings two. Intervals sort patients by name."""
        spelt = {written: named for written, named in self._spelt.items() if written}
        if [spelt[written] for written in sorted(spelt)] != sorted({named for named in spelt.values() if named}):
            yield "patients"

    def _require_own_labels(self) -> None:
        """Refuses two images of one label file: splits would part two formats of a picture, and two pictures of a name share a label."""
        found: dict[Path, str] = {}
        for place in self.images:
            for path in self.labels_beside(place):
                if (other := found.setdefault(path, place)) != place:
                    raise DataError(
                        f"{self.card.name}: {self.called(other)} and {self.called(place)} have one label file between them. Is it one "
                        "picture in two formats? Keep one, or name the other in `leave_out`. Are they two pictures of one name? Then the "
                        f"card's pattern under `{self.card.reader}` needs {{stem}}, which holds their folders."
                    )

    def _splits_if_possible(self) -> Mapping[str, Sequence[str]]:
        try:
            return self._made
        except SplitError:  # told where splits are checked
            return {}

    @cached_property
    def _made(self) -> Splits:
        assert self.card.split is not None
        there = set(self._given.values())
        if absent := [name for name in self.said_splits() if name not in there]:
            raise SplitError(
                f"{self.card.name}: the card says which images are {absent[0]}, and not one of them is there. Mend the list, or the "
                "name of the file, folder or value, or take it out of the card: then LOBE draws that split."
            )
        return own_splits([self.sample(i) for i in self.images if i in self._given], self._given, self.card.split, self.card)

    def _find_patients(self) -> None:
        if self.own.patient_pattern:
            pattern = re.compile(self.own.patient_pattern)
            for place in self.images:
                found = pattern.search(place)
                if found is not None and found[1]:
                    self._patients[place] = found[1]
        if self.own.names_patients:
            for place in self.images:
                if place not in self._patients:
                    self.odd.add("images without a patient", self.called(place))

    def labels_beside(self, place: str) -> tuple[Path, ...]:
        """Files that say something of this image alone: its masks or its text, for readers of such."""
        return ()

    def annotation_split(self, place: str) -> SplitName | None:
        """The split of the annotation file that lists an image, for readers with one file for each."""
        return None

    def said_splits(self) -> tuple[SplitName, ...]:
        """Splits whose images the card names. One without an image would be drawn from those of another."""
        return () if self.card.split is None else self.card.split.says

    def _splits_given(self) -> dict[str, SplitName]:
        """Id -> split, as far as the folder says; with `by: rule` all are for training until some are drawn."""
        split = self.card.split
        assert split is not None
        if split.overrules and split.by in ("column", "folder"):
            self.read_anew.add("names of splits")
        if split.by == "lists":
            return self._read_lists(split)
        if split.by == "rule":
            return dict.fromkeys(self.images, "train")
        given: dict[str, SplitName] = {}
        for place in self.images:
            if split.by == "column":
                found = split.split_of(self._columns.get(place, ""))
            else:
                found = self.annotation_split(place) or by_folder(f"{self.own.images}/{place}", split)
            if found is None:
                self.odd.add("images in no split", self.called(place))
            else:
                given[place] = found
        return given

    def _read_lists(self, split: OwnSplit) -> dict[str, SplitName]:
        files = ImageFiles(self.root, self.own.images, self.card.name)
        given: dict[str, SplitName] = {}
        for name in SPLITS:
            listed = split.lists.get(name)  # type: ignore[call-overload]
            if listed is None:
                continue
            path = self.file(listed, "split.lists")
            self.tables = (*self.tables, path)
            for number, line in numbered_lines(path, self.card.name):
                place, where = files.find(line), f"{path.name} line {number:,}"
                if place is None or place not in self.images:
                    self.odd.add("names in a list without an image", where)
                elif place in given:
                    self.odd.add(TWO_SPLITS, where)
                else:
                    given[place] = name  # type: ignore[assignment]
        for place in self.images:
            if place not in given:
                self.odd.add("images in no split", self.called(place))
        return given
