"""The layout of COVID Rural's annotation repository (docs/sources.md, COVID Rural): colour JPEGs, 0/1 masks, LabelMe files, two tables.

Patients carry the numbers of the published split lists, so that LoVT's lists split the phantom too. That is why a corpus holds at most as
many patients as the lists, and why two seeds may share patient numbers (never anatomy).
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.measure import approximate_polygon, find_contours

from benchmark import registry
from benchmark.errors import CardError, UsageError
from benchmark.phantom.anatomy import SIDES, Patient, Scene, draw_patient
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_key, patient_of, shots_of, stream_of
from benchmark.phantom.findings import OUTLINE, Finding, draw_count, draw_opacities
from benchmark.phantom.radiograph import GRID, compose, develop
from benchmark.phantom.seeds import number_of, stream

DEFAULT_POSITIVE_SHARE = 193 / 221  # images with a visible mask file among the annotated ones (docs/sources.md, COVID Rural)
SPLITS = ("train", "validation", "test")
PREFIX = "COVID-19-AR-"
TOP = "covid_rural_annot"
EXTRA_SHARE = 0.25  # un-annotated JPEGs per annotated image; the release has more JPEGs than annotations
MISSING_MASK_SHARE = 0.2  # of the images without opacity: an all-zero mask, or none at all
HEIGHTS, ASPECTS = (1_040, 1_400), (1.0, 1.28)  # about half the release's 2,330 x 2,846, of varying size like it
SMALLEST_AREA = 12.0  # of a polygon, in cells of the scene's grid
# Column names that were read; the release has 32.
PATIENT_COLUMNS = ("PATIENT_ID", "AGE", "SEX", "RACE", "ZIP", "LATEST_BMI", "MORTALITY")
NOTE_COLUMNS = (
    "patient_id",
    "Diag to img study (days)",
    "Diagnosis to Imaging time (hrs)",
    "Image Study Description",
    "Radiologist KEY FINDINGS",
)


def shots(plan: CorpusPlan) -> list[Shot]:
    """Annotated images of the chosen patients, then JPEGs nobody annotated."""
    _numbers(plan)
    annotated = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    rng = stream("extra", plan.dataset, plan.seed)
    extra = [Shot(one.patient, one.index + 100, one.positive, "extra") for one in annotated if rng.random() < EXTRA_SHARE]
    return annotated + extra


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    height = int(rng.integers(*HEIGHTS))
    width = round(height * rng.uniform(*ASPECTS))
    n_opacities = draw_count(rng) if shot.positive else 0

    def findings(scene: Scene) -> list[Finding]:
        if not n_opacities:
            return []
        kind, strength = ("ground glass", 0.8) if rng.random() < 0.65 else ("consolidation", 1.1)
        return draw_opacities(scene, n_opacities, rng, kind, strength)

    radiograph = compose(patient, rng, findings, heart_enlarged=rng.random() < 0.25, aspect=width / height)
    grey = develop(radiograph, height, width, rng)
    name = _patient_name(plan, shot.patient)
    stem = f"{name}_{_study_date(plan, shot):%m-%d-%Y}-XR"
    jpgs = root / TOP / "jpgs"
    jpgs.mkdir(parents=True, exist_ok=True)
    jpeg = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(jpeg, "JPEG", quality=85, subsampling="4:2:0")
    (jpgs / f"{stem}.jpg").write_bytes(jpeg.getvalue())

    mask_pixels = 0
    if shot.role != "extra":
        shapes = _shapes(radiograph.scene, radiograph.findings, height, width)
        mask = _rasterise([points for label, points in shapes if "lung" not in label], height, width)
        mask_pixels = int(np.count_nonzero(mask))
        if mask_pixels or rng.random() >= MISSING_MASK_SHARE:
            masks = root / TOP / "pngs_masks"
            masks.mkdir(exist_ok=True)
            Image.fromarray(mask).save(masks / f"{stem}.png", compress_level=1)
        _write_labelme(jpgs / "jsons" / f"{stem}.json", stem, shapes, jpeg.getvalue(), height, width)
    label = {"mask_pixels": mask_pixels, "pixels": height * width, "patient_index": shot.patient}
    return Written(shot, stem, name, radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    annotated = sorted((one for one in written if one.shot.role != "extra"), key=lambda one: one.id)
    names = sorted({one.patient_id: one.label["patient_index"] for one in written}.items())
    patients = [(name, draw_patient(patient_key(plan, index))) for name, index in names]
    _write_table(root / TOP / "covid_rural_patient_info.csv", PATIENT_COLUMNS, [_patient_row(*one) for one in patients])
    notes = [(one.patient_id, one.shot.index, 24 * one.shot.index, "XR CHEST AP PORTABLE", one.report) for one in annotated]
    _write_table(root / TOP / "covid_rural_radiologist_notes.csv", NOTE_COLUMNS, notes)
    counts = {
        "images": len(annotated),
        "masks": len(list((root / TOP / "pngs_masks").glob("*.png"))),
        "boxes": 0,
        "positives": sum(one.label["mask_pixels"] > 0 for one in annotated),
        "patients": len({one.patient_id for one in annotated}),
        "jpegs": len(written),
    }
    return Listing(tuple(one.id for one in annotated), counts)


def _numbers(plan: CorpusPlan) -> list[str]:
    """Names of the plan's patients: the three published lists in their proportions, at least one of each from three patients on."""
    lists = registry.dataset("covid-rural").splits["lovt"].patients
    if lists is None or set(lists) != set(SPLITS):
        raise CardError(
            "covid-rural: the card's split 'lovt' has no patient lists train, validation and test; the phantom needs their numbers."
        )
    total = sum(map(len, lists.values()))
    if plan.n_patients > total:
        raise UsageError(
            f"covid-rural: the published split lists name {total} patients, so a phantom cannot hold {plan.n_patients}. "
            "Ask for fewer patients or for more images per patient."
        )
    rng = stream("numbers", plan.dataset, plan.seed)
    shuffled = {split: [str(name) for name in rng.permutation(list(lists[split]))] for split in SPLITS}
    # Patients join one by one where the share reached so far is furthest behind, so every prefix keeps the proportions.
    taken: dict[str, list[str]] = {split: [] for split in SPLITS}
    for _ in range(plan.n_patients):
        split = min((s for s in SPLITS if len(taken[s]) < len(lists[s])), key=lambda s: len(taken[s]) / len(lists[s]))
        taken[split].append(shuffled[split][len(taken[split])])
    names = [name if name.startswith(PREFIX) else PREFIX + name for split in SPLITS for name in taken[split]]
    return [str(name) for name in rng.permutation(names)]


def _patient_name(plan: CorpusPlan, patient: int) -> str:
    return _numbers(plan)[patient]


def _study_date(plan: CorpusPlan, shot: Shot) -> date:
    """Dates of one patient differ: each running number has its own stretch of days."""
    first = number_of("first study", patient_key(plan, shot.patient), below=2_000)
    extra, index = divmod(shot.index, 100)
    step = number_of("study", patient_key(plan, shot.patient), shot.index, below=9)
    return date(2008, 1, 1) + timedelta(days=first + 20 * index + 10 * extra + step)


def _shapes(scene: Scene, findings: tuple[Finding, ...], height: int, width: int) -> list[tuple[str, np.ndarray]]:
    """LabelMe polygons, (n, 2) as x, y in pixels of the picture: lungs and opacities."""
    scale = height / GRID
    shapes = []
    for side in SIDES:
        outlines = sorted(find_contours(np.pad(scene.lungs[side], 1), 0.5), key=len)
        shapes.append((f"{side}_lung", outlines[-1] - 1))
    for finding in findings:
        label = "groud_glass_opacity" if finding.kind == "ground glass" else "consolidation"  # the release's spelling
        shapes += [(label, line - 1) for line in find_contours(np.pad(finding.density, 1), OUTLINE) if _area(line) > SMALLEST_AREA]
    limits = np.array([width - 1, height - 1], dtype=float)
    return [(label, np.clip((approximate_polygon(line, 0.3)[:, ::-1] + 0.5) * scale - 0.5, 0, limits)) for label, line in shapes]


def _area(line: np.ndarray) -> float:
    rows, columns = line[:, 0], line[:, 1]
    return 0.5 * abs(float(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1))))


def _rasterise(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(height, width) uint8 with 1 inside any polygon."""
    picture = Image.new("L", (width, height))
    pen = ImageDraw.Draw(picture)
    for points in polygons:
        pen.polygon(points.reshape(-1).tolist(), fill=1)
    return np.array(picture)


def _write_labelme(path: Path, stem: str, shapes: list[tuple[str, np.ndarray]], jpeg: bytes, height: int, width: int) -> None:
    path.parent.mkdir(exist_ok=True)
    content = {
        "version": "4.5.6",
        "flags": {},
        "shapes": [
            {"label": label, "points": points.round(2).tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
            for label, points in shapes
        ],
        "imagePath": f"{stem}.jpg",
        "imageData": base64.b64encode(jpeg).decode("ascii"),
        "imageHeight": height,
        "imageWidth": width,
    }
    path.write_text(json.dumps(content, indent=2), encoding="utf-8", newline="\n")


def _patient_row(name: str, patient: Patient) -> tuple[object, ...]:
    return name, patient.age, patient.sex, "", "", round(25 * patient.habitus, 1), ""


def _write_table(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
