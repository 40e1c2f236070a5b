"""The layout of VinDr-CXR 1.0.0 (docs/sources.md, VinDr-CXR): .dicom files of 12 to 16 bits, a table of three readers, one of a consensus.

Readers agree roughly: their boxes of one finding differ a little, and some miss one of several. What is not known of the release is plain
here: pixels are uncompressed, headers hold what a viewer needs, sides have about 1,000 pixels instead of 2,000 to 3,500, and there are no
image_labels tables, whose columns are not known. Of the 14 classes eight are drawn; poses are PA and AP though the release has PA only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, scaled_box, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import CLASSES_PER_IMAGE, LOOKS, draw, draw_names
from benchmark.phantom.radiograph import GRID, develop
from benchmark.phantom.secondary_capture import uids
from benchmark.phantom.seeds import uuid_of

DEFAULT_POSITIVE_SHARE = (15_000 - 10_606) / 15_000  # docs/sources.md, VinDr-CXR: images not all of whose rows are "No finding"
TEST_SHARE = 0.2  # of the patients; the release has 3,000 of 18,000 images
HEIGHTS, ASPECTS = (900, 1_200), (0.8, 1.0)
BITS, INVERTED_SHARE, WINDOWED_SHARE = (12, 14, 16), 0.3, 0.7
ROWS_PER_CLASS = {  # docs/sources.md, VinDr-CXR, the classes that are drawn
    "Cardiomegaly": 5_427,
    "Nodule/Mass": 2_580,
    "Lung Opacity": 2_483,
    "Pleural effusion": 2_476,
    "Infiltration": 1_247,
    "ILD": 1_000,
    "Atelectasis": 279,
    "Pneumothorax": 226,
}
N_READERS, READERS_PER_IMAGE = 17, 3
WANDER, MISSED_SHARE = 0.04, 0.15  # of a box's side; of the findings beyond a reader's first
NORMAL = "No finding"
TRAIN_HEADER, TEST_HEADER = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max", "image_id,class_name,x_min,y_min,x_max,y_max"

Corners = tuple[int, int, int, int]


@dataclass(frozen=True)
class Pixels:
    """How grey levels are stored. `window` is centre and width in stored values, or None."""

    stored: np.ndarray
    bits: int
    inverted: bool
    window: tuple[float, float] | None


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the folders: whole patients belong to "train" or "test"."""
    n_test = max(1, round(TEST_SHARE * plan.n_patients))
    return [replace(one, role="test" if one.patient < n_test else "train") for one in shots_of(plan, DEFAULT_POSITIVE_SHARE)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    names = draw_names(ROWS_PER_CLASS, CLASSES_PER_IMAGE, rng) if shot.positive else []
    height = int(rng.integers(*HEIGHTS))
    width = round(height * rng.uniform(*ASPECTS))
    radiograph, drawn = draw(patient, names, LOOKS, "Cardiomegaly", rng, aspect=width / height)
    name = uuid_of("vindr", plan.seed, shot.patient, shot.index).replace("-", "")
    folder = root / shot.role
    folder.mkdir(exist_ok=True)
    pixels = _store(develop(radiograph, height, width, rng), rng)
    _write_dicom(folder / f"{name}.dicom", pixels, uids("vindr", plan.seed, shot.patient, shot.index))
    truth = [(finding, _corners(scaled_box(box, GRID, height, width))) for finding, _, box in drawn]
    rows = _consensus(truth) if shot.role == "test" else _readings(truth, height, width, rng)
    return Written(shot, name, patient_id(plan, shot), radiograph.report, (), {"rows": rows})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    folder = root / "annotations"
    folder.mkdir()
    listed = {subset: [one for one in written if one.shot.role == subset] for subset in ("train", "test")}
    for subset, header in (("train", TRAIN_HEADER), ("test", TEST_HEADER)):
        write_lines(
            folder / f"annotations_{subset}.csv", [header, *(f"{one.id},{row}" for one in listed[subset] for row in one.label["rows"])]
        )
    rows = [row.split(",") for one in written for row in one.label["rows"]]
    counts = {
        "images": len(written),
        "positives": sum(one.shot.positive for one in written),
        "patients": len({one.patient_id for one in written}),
        "train_readers": len({row.split(",")[0] for one in listed["train"] for row in one.label["rows"]}),
        "box_rows": sum(bool(row[-1]) for row in rows),
    }
    for subset, ones in listed.items():
        counts |= {f"{subset}_images": len(ones), f"{subset}_normal": sum(not one.shot.positive for one in ones)}
    return Listing(tuple(one.id for subset in listed.values() for one in subset), counts)


def _readings(truth: list[tuple[str, Corners]], height: int, width: int, rng: np.random.Generator) -> list[str]:
    """Rows of three readers. As in the release each of them has a box where one of them has."""
    rows = []
    for reader in sorted(rng.choice(N_READERS, READERS_PER_IMAGE, replace=False).tolist()):
        order = [truth[k] for k in rng.permutation(len(truth))]
        seen = [one for k, one in enumerate(order) if k == 0 or rng.random() >= MISSED_SHARE]
        rows += [f"R{reader + 1},{_row(name, _wandered(corners, height, width, rng))}" for name, corners in seen]
        rows += [] if truth else [f"R{reader + 1},{NORMAL},,,,"]
    return rows


def _consensus(truth: list[tuple[str, Corners]]) -> list[str]:
    return [_row(name, corners) for name, corners in truth] or [f"{NORMAL},,,,"]


def _row(name: str, corners: Corners) -> str:
    return f"{name},{','.join(f'{value:.1f}' for value in corners)}"


def _corners(box: tuple[float, float, float, float]) -> Corners:
    x, y, width, height = map(round, box)
    return x, y, x + width, y + height


def _wandered(corners: Corners, height: int, width: int, rng: np.random.Generator) -> Corners:
    """The same finding as another hand would outline it, inside the picture."""
    left, top, right, bottom = corners
    sides = np.array([right - left, bottom - top, right - left, bottom - top])
    moved = np.rint(np.array(corners) + rng.uniform(-WANDER, WANDER, 4) * sides).astype(int)
    return tuple(np.clip(moved, 0, [width, height, width, height]).tolist())


def _store(grey: np.ndarray, rng: np.random.Generator) -> Pixels:
    """Grey, (H, W) uint8, over part of the range of 12, 14 or 16 bits, some with larger values darker."""
    bits = int(rng.choice(BITS))
    brightest = 2**bits - 1
    low, high = rng.uniform(0.02, 0.1) * brightest, rng.uniform(0.75, 0.95) * brightest
    stored = np.rint(low + grey.astype(np.float64) / 255 * (high - low))
    centre, inverted = (low + high) / 2, bool(rng.random() < INVERTED_SHARE)
    if inverted:
        stored, centre = brightest - stored, brightest - centre
    window = (round(centre, 1), round(high - low + 1, 1)) if rng.random() < WINDOWED_SHARE else None
    return Pixels(stored.astype(np.uint16), bits, inverted, window)


def _write_dicom(path: Path, pixels: Pixels, names: tuple[str, str, str]) -> None:
    study, series, instance = names
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.Modality = "CR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if pixels.inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, pixels.bits, pixels.bits - 1
    dataset.PixelRepresentation = 0
    if pixels.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = pixels.window
        dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = pixels.stored.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
