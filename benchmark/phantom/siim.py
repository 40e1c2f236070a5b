"""The layout of SIIM-ACR Pneumothorax, merged stage 2 (docs/sources.md, SIIM-ACR): a DICOM tree and relative run lengths.

As in the release, one row per instance, some instances overlap, a few training files have no row, and no patient is named.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmark.phantom.anatomy import SIDES, Scene, Side
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.findings import OUTLINE, Finding, pneumothorax
from benchmark.phantom.radiograph import compose, develop, enlarge
from benchmark.phantom.secondary_capture import HeaderValues, uids, write_secondary_capture
from benchmark.phantom.seeds import number_of, uuid_of

DEFAULT_POSITIVE_SHARE = 2_669 / 12_047  # docs/sources.md, SIIM-ACR
SIZE = 1024
INSTANCES_PER_POSITIVE = {1: 2_045, 2: 447, 3: 112, 4: 40, 5: 18, 6: 3, 7: 1, 8: 2, 10: 1}  # docs/sources.md, SIIM-ACR, positives only
OVERLAP_SHARE = 183 / 624  # of the images with several instances
WITHOUT_ROW_SHARE, MOST_WITHOUT_ROW = 42 / 12_089, 42
UNLABELLED_SHARE = 0.02  # dicom-images-test: 3,205 files in the release, a few stand for them
SMALLEST_MASK = 55  # pixels, docs/sources.md, SIIM-ACR
TRAIN_FOLDER, TEST_FOLDER = "dicom-images-train", "dicom-images-test"


def shots(plan: CorpusPlan) -> list[Shot]:
    """Labelled images, then training files without a row, then test files, the last two of further patients."""
    labelled = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    n_bare = min(max(1, round(WITHOUT_ROW_SHARE * len(labelled))), MOST_WITHOUT_ROW)
    n_test = max(1, round(UNLABELLED_SHARE * len(labelled)))
    roles = ["without row"] * n_bare + ["test"] * n_test
    return labelled + [Shot(plan.n_patients + k, 0, False, role) for k, role in enumerate(roles)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    n_instances = _draw_instances(rng) if shot.positive else 0
    on_both_sides = n_instances > 1 and rng.random() < 0.25

    def findings(scene: Scene) -> list[Finding]:
        if not n_instances:
            return []
        first = int(rng.integers(2))
        sides = [SIDES[first], SIDES[1 - first]] if on_both_sides else [SIDES[first]]
        return [visible_pneumothorax(scene, side, rng) for side in sides]

    radiograph = compose(patient, rng, findings)
    study, series, instance = uids("siim", plan.seed, shot.patient, shot.index)
    folder = root / (TEST_FOLDER if shot.role == "test" else TRAIN_FOLDER) / study / series
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid_of("siim", plan.seed, shot.patient, shot.index)
    identity = HeaderValues(name, patient.sex, patient.age, radiograph.scene.pose.view, 0.168, study, series, instance)
    write_secondary_capture(folder / f"{instance}.dcm", develop(radiograph, SIZE, SIZE, rng), identity)

    masks = [enlarge(one.density, SIZE, SIZE) > OUTLINE for one in radiograph.findings]
    pieces = _pieces(masks, n_instances, overlap=12 if rng.random() < OVERLAP_SHARE else 0) if n_instances else []
    label = {"codes": [relative_run_lengths(piece) for piece in pieces], "areas": [int(piece.sum()) for piece in pieces]}
    return Written(shot, instance, patient_id(plan, shot), radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    labelled = [one for one in written if one.shot.role == "labelled"]
    labelled.sort(key=lambda one: number_of("row", one.id, below=2**63))  # the release's rows follow no visible order
    lines = ["ImageId, EncodedPixels"]  # the blank is the release's
    for one in labelled:
        lines += [f"{one.id},{code}" for code in one.label["codes"]] or [f"{one.id},-1"]
    write_lines(root / "train-rle.csv", lines)
    positives = sum(bool(one.label["codes"]) for one in labelled)
    counts = {
        "images": len(labelled),
        "positives": positives,
        "negatives": len(labelled) - positives,
        "masks": sum(len(one.label["codes"]) for one in labelled),
        "label_rows": len(lines) - 1,
        "boxes": 0,
        "patients": len({one.patient_id for one in labelled}),
        "files_without_row": sum(one.shot.role == "without row" for one in written),
        "unlabelled_images": sum(one.shot.role == "test" for one in written),
    }
    return Listing(tuple(one.id for one in labelled), counts)


def relative_run_lengths(mask: np.ndarray) -> str:
    """SIIM's code of a mask, (H, W) bool: `gap run gap run ...` down the columns, each gap counted from the end of the previous run."""
    flat = np.concatenate([[False], mask.T.reshape(-1), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return " ".join(map(str, np.diff(changes, prepend=0)))


def _draw_instances(rng: np.random.Generator) -> int:
    counts = np.array(list(INSTANCES_PER_POSITIVE.values()), dtype=float)
    return int(rng.choice(list(INSTANCES_PER_POSITIVE), p=counts / counts.sum()))


def visible_pneumothorax(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """Drawn again until it is larger than the smallest mask of the release."""
    while True:
        finding = pneumothorax(scene, side, rng)
        if np.count_nonzero(finding.mask) * (SIZE / scene.shape[0]) ** 2 > 4 * SMALLEST_MASK:
            return finding


def _pieces(masks: list[np.ndarray], n: int, overlap: int) -> list[np.ndarray]:
    """Cuts masks into n instances at most: one above the other with equal areas, reaching `overlap` rows into each other."""
    pieces = []
    for index, mask in enumerate(masks):
        shares = n // len(masks) + (index < n % len(masks))
        filled = np.cumsum(mask.sum(axis=1))
        edges = np.searchsorted(filled, np.linspace(0, filled[-1], shares + 1))
        edges[0], edges[-1] = 0, len(filled)
        for top, bottom in pairwise(edges):
            piece = np.zeros_like(mask)
            piece[max(0, top - overlap) : bottom] = mask[max(0, top - overlap) : bottom]
            if piece.any():
                pieces.append(piece)
    return pieces
