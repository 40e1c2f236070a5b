"""What a reader owes: samples of a split, and a check of the folder against its card.

A reader turns one public release, as it lies on disk, into `Sample`s. It reads label files when opened and image files only when asked;
it never writes into the data folder and never resizes. What readers share is in `kit`; a whole example is tests/readers/made_up.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from benchmark import registry
from benchmark.cards import DatasetCard, SplitRule
from benchmark.errors import DataError, PartialRelease
from benchmark.files import open_regular
from benchmark.own import catalogue
from benchmark.readers.kit.elsewhere import what_to_do
from benchmark.readers.kit.generated import manifest_in, patients_in
from benchmark.readers.kit.walk import first_folder_with, holds_nothing
from benchmark.readers.kit.withheld import Quiet, known_names, withholding, without_known

SPLITS = ("train", "validation", "test")
_PIECE_BYTES = 2**20
Verdict = Literal["ok", "warning", "error", "unknown"]

_SHOWN_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Phrase:
    """Words about one finding of an image, and where it is.

    Attributes:
        text: as written; from a report, so never logged.
        boxes_xywh: (n, 4) float64, n >= 1, pixels of the original image.
        category: the finding, one of the card's classes.
        groups: in which the release puts what the words name, in its own names; empty where it has none.
    """

    text: str
    boxes_xywh: np.ndarray
    category: str
    groups: tuple[str, ...] = ()


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4))


def _no_labels() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its ground truth, in pixels of the original image.

    Attributes:
        id: identifier in the split lists.
        patient_id: None where the release carries none.
        image: call to decode: (H, W) uint8, or uint16 where the release has more bits. Raises ImageError.
        files: files whose bytes decide `image` and `masks`; their digests enter the cache.
        masks: call with the image's (H, W) for its masks: (C, H, W) bool in the card's class order; None for datasets without masks.
        boxes_xywh: (n, 4) float64, top-left x, y, width, height.
        box_labels: (n,) int64, index into the card's classes.
        positive: whether any finding is annotated, where label files say so without opening an image; else None.
        report: report text, never logged.
        view: "PA", "AP", ...; None where the release does not say.
        sex: "M" or "F"; None where the release does not say.
        age_decade: 0, 10, ... 90 in years, 90 for all above; None where the release does not say, or says what cannot be.
        labels: (C,) int8 in the card's class order: 1, 0, or -1 where nobody knows; None for datasets without whole-image labels.
        phrases: with their boxes, for datasets that ground words.
    """

    id: str
    patient_id: str | None
    image: Callable[[], np.ndarray]
    files: tuple[Path, ...]
    masks: Callable[[tuple[int, int]], np.ndarray] | None = None
    boxes_xywh: np.ndarray = field(default_factory=_no_boxes)
    box_labels: np.ndarray = field(default_factory=_no_labels)
    positive: bool | None = None
    report: str | None = None
    view: str | None = None
    sex: str | None = None
    age_decade: int | None = None
    labels: np.ndarray | None = None
    phrases: tuple[Phrase, ...] = ()


@dataclass(frozen=True)
class Check:
    """One line of `lobe data verify`: what was compared, expected and found."""

    what: str
    expected: str
    found: str
    verdict: Verdict
    hint: str = ""


@dataclass(frozen=True)
class Verification:
    dataset: str
    release: str
    phantom: bool
    checks: tuple[Check, ...] = field(default=())
    partial: str = ""

    @property
    def ok(self) -> bool:
        return all(check.verdict != "error" for check in self.checks)


class Reader(ABC):
    """Base of all readers. Opening parses the label files and raises DataError for anything inconsistent in them."""

    def __init__(self, card: DatasetCard, root: Path, shapes: Literal["released", "true"] = "released"):
        """
        Args:
            card: the dataset's card.
            root: the dataset's own folder, as the public release unpacks.
            shapes: for readers whose published conversion altered the shapes (Object-CXR); others ignore it.
        """
        self.card = card
        self.root = root
        self.shapes = shapes
        self.warnings: list[str] = []
        if not root.is_dir():
            raise DataError(f"{card.name}: no folder {root}. Expected the public release there: {card.source}. {what_to_do(card, root)}")
        if holds_nothing(root):
            raise DataError(f"{card.name}: the folder {root} is empty. Expected {', '.join(card.files) or 'the public release'}.")
        self.open()

    @property
    def names_files(self) -> bool:
        """Whether sentences may name a file; not where the agreement lets nothing be passed on, for a path tells who was examined."""
        return self.card.redistribution != "none"

    @abstractmethod
    def open(self) -> None:
        """Reads label files and lists images; sets `release`, `images` and `tables`."""

    release: str
    partial: str = ""
    """What a known partial release holds, where the folder is one: its jobs run whole, are never ranked, and stand beside nothing."""
    images: Mapping[str, Path]
    """The image file of every usable id, in the order the split rules start from."""
    tables: tuple[Path, ...]
    """Files that decide ids, boxes, masks and splits."""
    listed_files: ClassVar[str] = "image files"
    """What `image_files` names, and what to ask where some are not there: for sentences."""
    completeness: ClassVar[str] = "Is the download complete, and do all links lead somewhere?"

    @property
    def ids(self) -> tuple[str, ...]:
        """All usable ids, in the order the split rules start from."""
        return tuple(self.images)

    @abstractmethod
    def sample(self, sample_id: str) -> Sample:
        """The image of that id with its ground truth. Raises DataError for an id that is none of `ids`."""

    def label_files(self) -> tuple[Path, ...]:
        """`tables`."""
        return self.tables

    def image_files(self) -> tuple[Path, ...]:
        """The image file of every id. Whether each is there, `image_sizes` tells."""
        return tuple(self.images.values())

    def image_sizes(self) -> array[int]:
        """Bytes of each of `image_files`, in their order; -1 where no file is. One look at each, which is what costs on a disk far away."""
        return array("q", map(_size, self.image_files()))

    def path_of(self, sample_id: str) -> Path:
        """The image file of an id. Raises DataError for an id that is none of `images`."""
        if sample_id not in self.images:
            which = f"no image {sample_id!r} is" if self.names_files else "an id was asked for that is not"
            raise DataError(f"{self.card.name}: {which} among the {len(self.images):,} images of this folder.")
        return self.images[sample_id]

    def folder_with(self, *names: str, look_alikes: Mapping[str, str] | None = None) -> Path:
        """The dataset's folder, or the one folder in it that holds one of `names`: archives unpack with or without their top folder.

        Args:
            look_alikes: file of another release that is known to be taken for this one -> what to say of it.

        Raises:
            DataError: no such folder, or two.
        """
        base = first_folder_with(self.root, names, self.card.name)
        if base is not None:
            return base
        known = (look_alikes or {}).items()
        found = "".join(f" {what}" for name, what in known if first_folder_with(self.root, (name,), self.card.name) is not None)
        source = f", of {self.card.source}" if self.names_files else ""
        raise DataError(
            f"{self.card.name}: {' or '.join(names)} is missing in {self.root}.{found} Expected {', '.join(self.card.files)}{source}."
        )

    @abstractmethod
    def split(self, rule: SplitRule) -> dict[str, tuple[str, ...]]:
        """Ids of train, validation and test in the rule's order. Raises SplitError for leaks and unknown ids."""

    @abstractmethod
    def checks(self) -> Iterable[Check]:
        """Counts, columns and digests against the card, for `verify`."""

    def audit(self) -> Iterable[Check]:
        """What only `lobe data verify` looks at, because it is dear: nothing for releases, whose digests tell."""
        return ()

    @cached_property
    def phantom(self) -> dict | None:
        """The content of PHANTOM.json, or None for a public release.

        Raises:
            DataError: the file is damaged.
        """
        return manifest_in(self.root, self.card.name)

    def phantom_patients(self) -> dict[str, str]:
        """Image id -> generated patient, as a phantom's report table names them; empty for a public release.

        An image put into the corpus later has no patient.

        Raises:
            DataError: the table has other columns.
        """
        patients = {} if self.phantom is None else patients_in(self.root, self.card.name)
        return {i: patients[i] for i in self.ids if patients.get(i)}

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        """`Sample.files`, without the rest of the sample where that is dear."""
        return self.sample(sample_id).files

    def texts_of(self, sample_id: str) -> tuple[Path, ...]:
        """Files of a sample that are neither label files nor decoded: reports, each in a file of its own."""
        return ()

    published_in: Path | None = None
    """The folder of a release that publishes checksums, where it need not be `root`."""

    @property
    def checksum_folders(self) -> tuple[Path, ...]:
        """Where the release's own list of checksums may lie; its names start there."""
        return (self.published_in or self.root,)

    def decided(self) -> str:
        """What else than files decides samples and is not in a job's reference to the dataset; text that only equal decisions share."""
        return ""

    def label_digest(self) -> str:
        """SHA-256 over the label files' names and bytes, and what the cards decide."""
        sha = hashlib.sha256(self.decided().encode() + b"\0")
        for path in sorted(self.label_files()):
            with open_regular(path) as handle:
                sha.update(f"{self.named(path)}\t{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
        return sha.hexdigest()

    def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
        """SHA-256 over the label files' bytes and the sorted list of (relative image path, size).

        It sees no content of an image: two folders of equal outline may hold other pixels. The first release took it for the identity of
        a dataset (`benchmark.adopt`); now it only tells caches of different folders apart. Identity is `benchmark.readers.kit.identity`.

        Args:
            sizes: `image_sizes`, where they are known already.

        Raises:
            PartialRelease: image files are not there.
        """
        sha = hashlib.sha256()
        for path in sorted(self.label_files()):
            sha.update(self.named(path).encode() + b"\0")
            with open_regular(path) as handle:
                while piece := handle.read(_PIECE_BYTES):
                    sha.update(piece)
        files = self.image_files()
        sizes = self.image_sizes() if sizes is None else sizes
        if missing := sum(size < 0 for size in sizes):
            raise PartialRelease(f"{self.card.name}: {missing:,} of {len(files):,} {self.listed_files} are not there. {self.completeness}")
        for line in sorted(f"{self.named(path)}\t{size}" for path, size in zip(files, sizes, strict=True)):
            sha.update(line.encode() + b"\n")
        return sha.hexdigest()

    def named(self, path: Path) -> str:
        """A file as the digest names it: by its place in the release, wherever the release lies."""
        return place_below(self.root, path)

    def verify(self) -> Verification:
        return Verification(self.card.name, self.release, self.phantom is not None, tuple(self.checks()), self.partial)


def open_reader(card: DatasetCard, root: Path, shapes: Literal["released", "true"] = "released") -> Reader:
    """The reader named by the card, opened on `root`. Reader modules call their class `DatasetReader`.

    Of a dataset that may not be passed on, no sentence that it raises or gives names anybody (`benchmark.readers.kit.withheld`). What a
    reader of the user's own reads depends on its code, which is part of its digests.
    """
    reader = registry.plugin("readers", card.reader).DatasetReader
    if catalogue.find("readers", card.reader) is not None:
        reader = _coded(reader, catalogue.planned("readers", card.reader).code.digest)
    return (reader if card.redistribution != "none" else _discreet(reader))(card, root, shapes)


def place_below(folder: Path, path: Path) -> str:
    """As `path.relative_to(folder).as_posix()`, a tenth as dear: releases name hundreds of thousands of files."""
    base, text = os.path.join(folder, ""), str(path)
    return text[len(base) :].replace(os.sep, "/") if text.startswith(base) else path.relative_to(folder).as_posix()


def _size(path: Path) -> int:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # nothing there, a link to nowhere, or a name that no file can have
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def ids_digest(ids: Sequence[str], *, ordered: bool = False) -> str:
    """SHA-256 of ids joined by a newline: in the given order, or distinct and sorted (the published definition)."""
    listed = list(ids) if ordered else sorted(set(ids))
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


class _Discreet(Reader):
    """Stands before the reader of a dataset that is withheld, and lets its errors, checks and warnings name nothing.

    Attributes:
        _behind: that reader, next in line: `super()` would name the abstract methods of `Reader`.
    """

    _behind: ClassVar[type[Reader]]

    def __init__(self, card: DatasetCard, root: Path, *rest: Any):
        with withholding(card, root):
            super().__init__(card, root, *rest)
        self.warnings = [self._quiet(sentence) for sentence in self.warnings]

    def sample(self, sample_id: str) -> Sample:
        with self._withholding():
            found = self._behind.sample(self, sample_id)
        words = (found.id, *filter(None, [found.patient_id]), *(path.name for path in found.files))
        masks = None if found.masks is None else Quiet(self.card, self.root, words, found.masks)
        return replace(found, image=Quiet(self.card, self.root, words, found.image), masks=masks)

    def checks(self) -> Iterator[Check]:
        yield from self._quieted(self._behind.checks)

    def audit(self) -> Iterator[Check]:
        yield from self._quieted(self._behind.audit)

    def _quieted(self, checks: Callable[[Reader], Iterable[Check]]) -> Iterator[Check]:
        with self._withholding():
            for check in checks(self):
                digest = _SHOWN_DIGEST.fullmatch(check.found)  # of all ids together
                if check.verdict == "ok":
                    yield check
                else:
                    found = check.found if digest else self._quiet(check.found)
                    yield replace(check, found=found, hint=self._quiet(check.hint))

    def split(self, *arguments: Any) -> Any:
        with self._withholding():
            return self._behind.split(self, *arguments)

    def image_files(self) -> Any:
        with self._withholding():
            return super().image_files()

    def files_of(self, sample_id: str) -> Any:
        with self._withholding():
            return super().files_of(sample_id)

    def texts_of(self, sample_id: str) -> Any:
        with self._withholding():
            return super().texts_of(sample_id)

    def label_digest(self) -> str:
        with self._withholding():
            return super().label_digest()

    def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
        with self._withholding():
            return super().outline_digest(sizes)

    def _withholding(self) -> AbstractContextManager[None]:
        return withholding(self.card, self.root, lambda: self.ids)

    def _quiet(self, sentence: str) -> str:
        return without_known(sentence, self.root, self._known)

    @cached_property
    def _known(self) -> frozenset[str]:
        """Of a release with a hundred thousand images: made once, and where there is something to say."""
        return known_names(self.ids)


@cache
def _coded(reader: type[Reader], code: str) -> type[Reader]:
    """The same reader, whose digests hold its code too: other code may read other samples from the same files."""

    class Coded(reader):  # type: ignore[valid-type, misc]
        def label_digest(self) -> str:
            return hashlib.sha256(f"{code}\n{super().label_digest()}".encode()).hexdigest()

        def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
            return hashlib.sha256(f"{code}\n{super().outline_digest(sizes)}".encode()).hexdigest()

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Coded, name, getattr(reader, name))
    return Coded


@cache
def _discreet(reader: type[Reader]) -> type[Reader]:
    """The same reader for data that is withheld."""
    return type(reader.__name__, (_Discreet, reader), {"__module__": reader.__module__, "__doc__": reader.__doc__, "_behind": reader})
