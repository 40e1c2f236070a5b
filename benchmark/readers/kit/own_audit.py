"""What only decoding every image of one's own data shows: unreadable files, equal images, empty masks. For `lobe data verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import LobeError
from benchmark.imaging.any_picture import is_dicom
from benchmark.imaging.picture import is_turned
from benchmark.readers.base import Check, Reader, Verdict
from benchmark.readers.kit.oddities import said


@dataclass(frozen=True)
class Found:
    """What is odd about images, and where.

    Attributes:
        grave: whether runs fail by it.
    """

    what: str
    places: list[str]
    hint: str
    grave: bool = False

    def check(self) -> Check:
        """A line of `lobe data verify`."""
        verdict: Verdict = "ok" if not self.places else "error" if self.grave else "warning"
        return Check(self.what, "0", said(self.places), verdict, self.hint if self.places else "")


def audit(reader: Reader, splits: Mapping[str, Sequence[str]], called: Callable[[str], str]) -> Iterator[Found]:
    """Decodes every image once, and draws its masks.

    Args:
        splits: of the card; empty where they cannot be made.
        called: id -> what finds the image for those who hold it.
    """
    split_of = {sample_id: name for name, ids in splits.items() for sample_id in ids}
    unreadable: list[str] = []
    flat: list[str] = []
    turned: list[str] = []
    empty: list[str] = []
    wide: list[str] = []
    first: dict[str, list[str]] = {}
    for sample_id in reader.ids:
        sample = reader.sample(sample_id)
        try:
            pixels = sample.image()
            masks = None if sample.masks is None else sample.masks(pixels.shape)
        except LobeError as error:
            unreadable.append(f"{called(sample_id)}: {error}")
            continue
        first.setdefault(_digest(pixels), []).append(sample_id)
        if pixels.min() == pixels.max():
            flat.append(called(sample_id))
        if pixels.dtype != np.uint8:
            wide.append(called(sample_id))
        if masks is not None and not masks.any() and sample.positive is not False:
            empty.append(called(sample_id))
        path = reader.images[sample_id]
        if not is_dicom(path) and is_turned(path):
            turned.append(called(sample_id))
    yield Found("images that cannot be read", unreadable, "Runs that need them fail. Mend them, or name them in `leave_out`.", grave=True)
    yield Found("images of one value", flat, "Is this the radiograph?")
    yield Found("pictures stored turned (EXIF)", turned, "Read as viewers show them; labels drawn on stored pixels do not fit.")
    if reader.card.mask_source == "masks":
        yield Found("empty masks", empty, "Used as images without a finding. Is the mask file the right one?")
    if wide and reader.card.intensity == "as-stored":
        yield Found("images of more than 8 bits", wide, "`intensity: as-stored` takes 8 bits; write `intensity: equalised`.", grave=True)
    same = [ids for ids in first.values() if len(ids) > 1]
    inside, across = [], []
    for ids in same:
        where = sorted({split_of.get(i, "no split") for i in ids} - {"no split"})
        if len(where) > 1:
            across.append(f"{' = '.join(map(called, ids[:3]))} in {' and '.join(where)}")
        else:
            inside.append(" = ".join(map(called, ids[:3])))
    yield Found("equal images", inside, "The same pixels more than once: remove all but one.")
    yield Found("equal images in two splits", across, "Training sees what it is tested on: remove them, or name them in `leave_out`.")


def _digest(pixels: np.ndarray) -> str:
    """SHA-256 over shape, type and pixels: the same picture as PNG and as DICOM is one image."""
    sha = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    sha.update(np.ascontiguousarray(pixels).tobytes())
    return sha.hexdigest()
