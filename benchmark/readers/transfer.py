"""Two releases as one dataset: trained and validated on the first, tested on the second.

Both lie beside each other under their own folder names and are read by their own readers; nothing is copied. Ids and patients carry the
name of their dataset, so that neither can be taken for the other's. Classes that one of them tells apart and the other does not
are merged as the card says.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmark import registry
from benchmark.cards import DatasetCard, SplitRule, canonical_json
from benchmark.errors import CardError, DataError, SplitError
from benchmark.readers.base import Check, Reader, Sample, open_reader
from benchmark.readers.kit.boxes import xywh_of, xyxy_of
from benchmark.readers.kit.fusion import fuse
from benchmark.readers.kit.splits import Splits, check_disjoint

TransferSide = Literal["train", "test"]
ROLES: tuple[TransferSide, ...] = ("train", "test")
STRICTEST = ("open", "ids", "none")  # what may leave the output folder, ever less

_RULE = re.compile(r"train (?P<train>\S+), test (?P<test>\S+)")


class DatasetReader(Reader):
    """All images of both releases; a split takes training and validation from the first, and the test from the second."""

    def open(self) -> None:
        self._require_folders()
        cards = {role: registry.dataset(self.card.parts[role]) for role in ROLES}
        self._releases = {role: open_reader(self._as_strict(card), self.root / card.folder, self.shapes) for role, card in cards.items()}
        self._require_same_kind()
        self._names = {role: self._classes_of(reader.card) for role, reader in self._releases.items()}
        self.warnings += [text for reader in self._releases.values() for text in reader.warnings]
        self.release = "; ".join(f"{reader.card.name}: {reader.release}" for reader in self._releases.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """`<dataset>/<id>` of the training dataset, then of the test dataset, each in its reader's order."""
        return tuple(_marked(reader, i) for reader in self._releases.values() for i in reader.ids)

    def sample(self, sample_id: str) -> Sample:
        """The sample of its release with the card's classes; words are left out, because only masks and boxes have classes to merge."""
        reader, own_id = self._release_of(sample_id)
        role = next(role for role, release in self._releases.items() if release is reader)
        sample = reader.sample(own_id)
        if sample.masks is None:
            raise DataError(f"{self.card.name}: {reader.card.name} has no masks.")
        boxes, labels = self._merged_boxes(role, sample)
        everything = {index for indices in self._names[role] for index in indices} == set(range(len(reader.card.classes)))
        return replace(
            sample,
            id=sample_id,
            patient_id=None if sample.patient_id is None else _marked(reader, sample.patient_id),
            masks=partial(self._masks, role, sample),
            boxes_xywh=boxes,
            box_labels=labels,
            # A finding of another class is no finding here. Where only masks could tell, nothing is said.
            positive=sample.positive if everything else (len(boxes) > 0 if "boxes" in reader.card.targets else None),
            report=None,
            labels=None,
            phrases=(),
        )

    def label_files(self) -> tuple[Path, ...]:
        return tuple(path for reader in self._releases.values() for path in reader.label_files())

    def image_files(self) -> tuple[Path, ...]:
        return tuple(path for reader in self._releases.values() for path in reader.image_files())

    def image_sizes(self) -> array[int]:
        return array("q", (size for reader in self._releases.values() for size in reader.image_sizes()))

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        reader, own_id = self._release_of(sample_id)
        return reader.files_of(own_id)

    def texts_of(self, sample_id: str) -> tuple[Path, ...]:
        reader, own_id = self._release_of(sample_id)
        return reader.texts_of(own_id)

    @property
    def checksum_folders(self) -> tuple[Path, ...]:
        return tuple(folder for reader in self._releases.values() for folder in reader.checksum_folders)

    def decided(self) -> str:
        """What the releases' cards decide here: their split rules, and which classes are one."""
        return canonical_json(self._decided())

    def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
        """SHA-256 over both releases' outlines, each by its own look at its files, and `decided`."""
        decided = self._decided()
        for role, reader in self._releases.items():
            decided[role]["digest"] = reader.outline_digest()
        return hashlib.sha256(canonical_json(decided).encode()).hexdigest()

    def split(self, rule: SplitRule) -> Splits:
        """`train A, test B`: train and validation of split A of the first dataset, the test of split B of the second."""
        made = self._both_sides(rule)
        splits = {name: self._all_marked("train", made["train"][name]) for name in ("train", "validation")}
        splits["test"] = self._all_marked("test", made["test"]["test"])
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        for reader in self._releases.values():
            for line in reader.checks():
                yield replace(line, what=f"{reader.card.name}: {line.what}")

    @cached_property
    def phantom(self) -> dict | None:
        """The PHANTOM.json of both releases by dataset; None where they are public releases."""
        found = {reader.card.name: reader.phantom for reader in self._releases.values()}
        return None if None in found.values() else found

    def _release_of(self, sample_id: str) -> tuple[Reader, str]:
        """The release that an id belongs to, and the id as that release knows it."""
        name, _, own_id = sample_id.partition("/")
        reader = next((reader for reader in self._releases.values() if reader.card.name == name), None)
        if reader is None or not own_id:
            starts = " or ".join(f"{release.card.name}/" for release in self._releases.values())
            raise DataError(f"{self.card.name}: no image {sample_id!r}; ids start with {starts}.")
        return reader, own_id

    def _decided(self) -> dict[str, dict[str, Any]]:
        return {
            role: {
                "dataset": reader.card.name,
                "classes": list(reader.card.classes),
                "splits": {name: rule.model_dump(mode="json", exclude={"expected"}) for name, rule in reader.card.splits.items()},
                "merged": [list(indices) for indices in self._names[role]],
                **({"decided": reader.decided()} if reader.decided() else {}),
            }
            for role, reader in self._releases.items()
        }

    def _require_folders(self) -> None:
        unnamed = [role for role in ROLES if role not in self.card.parts]
        if unnamed:
            raise CardError(f"{self.card.name}: the card names no dataset to {unnamed[0]} on; mend its `parts`.")
        both = " and ".join(self.card.parts[role] for role in ROLES)
        for card in map(registry.dataset, self.card.parts.values()):
            if not (self.root / card.folder).is_dir():
                raise DataError(
                    f"{self.card.name}: it needs {both}, and there is no folder {card.folder!r} in {self.root}. "
                    f"Both releases must lie there; {card.name}: {card.source}."
                )

    def _as_strict(self, card: DatasetCard) -> DatasetCard:
        """A release's card under this card's agreement, where that is the stricter: sentences about either release follow it."""
        return card.model_copy(update={"redistribution": max(card.redistribution, self.card.redistribution, key=STRICTEST.index)})

    def _require_same_kind(self) -> None:
        """Two different datasets, both generated or both real, under an agreement as strict as the stricter of theirs."""
        train, test = (registry.dataset(self._releases[role].card.name) for role in ROLES)
        if train.name == test.name:
            raise CardError(f"{self.card.name}: it trains and tests on {train.name}; a transfer needs two datasets.")
        strictest = max((train.redistribution, test.redistribution), key=STRICTEST.index)
        if STRICTEST.index(self.card.redistribution) < STRICTEST.index(strictest):
            raise CardError(
                f"{self.card.name}: redistribution is {self.card.redistribution!r}, but {train.name} has {train.redistribution!r} and "
                f"{test.name} {test.redistribution!r}: it must be {strictest!r}."
            )
        generated = [reader.card.name for reader in self._releases.values() if reader.phantom is not None]
        if len(generated) == 1:
            raise DataError(
                f"{self.card.name}: {generated[0]} is a generated phantom and the other dataset is not. "
                "A model trained on one says nothing about the other; put two phantoms or two releases there."
            )

    def _classes_of(self, card: DatasetCard) -> tuple[tuple[int, ...], ...]:
        """For each class of this card the class indices it has in the release's card."""
        found = []
        for name in self.card.classes:
            names = {name, *self.card.merged.get(name, ())}
            indices = tuple(k for k, other in enumerate(card.classes) if other in names)
            if not indices:
                raise CardError(f"{self.card.name}: {card.name} has none of {', '.join(sorted(names))}; it has {', '.join(card.classes)}.")
            found.append(indices)
        return tuple(found)

    def _both_sides(self, rule: SplitRule) -> dict[TransferSide, Splits]:
        """The splits that a rule names, each as its own release makes it. Raises SplitError for another rule, or an unknown split."""
        named = _RULE.fullmatch(rule.rule)
        if named is None:
            raise SplitError(f"{self.card.name}: the split rule is 'train A, test B' with a split of either dataset; found {rule.rule!r}.")
        return {role: self._split_of(role, named[role]) for role in ROLES}

    def _all_marked(self, role: TransferSide, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(_marked(self._releases[role], i) for i in ids)

    def _split_of(self, role: TransferSide, name: str) -> Splits:
        reader = self._releases[role]
        if name not in reader.card.splits:
            raise SplitError(f"{self.card.name}: {reader.card.name} has no split {name!r}. It offers: {', '.join(reader.card.splits)}.")
        return reader.split(reader.card.splits[name])

    def _merged_boxes(self, role: TransferSide, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of the card's classes; merged classes may name one finding twice, and those that overlap become one (`fusion`)."""
        boxes, labels = [np.zeros((0, 4))], []
        for k, indices in enumerate(self._names[role]):
            mine = np.isin(sample.box_labels, indices)
            xywh = sample.boxes_xywh[mine]
            if len(indices) > 1 and len(xywh):
                xywh = xywh_of(fuse(xyxy_of(xywh), [str(label) for label in sample.box_labels[mine]]))
            boxes.append(xywh)
            labels += [k] * len(xywh)
        return np.concatenate(boxes), np.array(labels, np.int64)

    def _masks(self, role: TransferSide, sample: Sample, shape: tuple[int, int]) -> np.ndarray:
        assert sample.masks is not None
        masks = sample.masks(shape)
        return np.stack([masks[list(indices)].any(axis=0) for indices in self._names[role]])


def _marked(reader: Reader, name: str) -> str:
    return f"{reader.card.name}/{name}"
