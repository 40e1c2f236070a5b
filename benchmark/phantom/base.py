"""What a corpus is asked for and what a writer owes; shared by the dispatcher and by one writer per public release.

A writer module has `DEFAULT_POSITIVE_SHARE`, `shots(plan)`, `write_image(plan, shot, root)` and `write_labels(plan, written, root)`. Images
are independent of each other, so any process may write any of them; label files are written once, from all results in shot order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.phantom.anatomy import Patient, draw_patient
from benchmark.phantom.seeds import number_of, stream

IMAGES_PER_PATIENT = (1, 4)  # uniform; RSNA's mean is 26,663 / 11,439 = 2.3 (docs/sources.md, RSNA)


@dataclass(frozen=True)
class CorpusPlan:
    """Decides every byte of a corpus.

    Attributes:
        dataset: name of the dataset card, for example "rsna".
        seed: another seed gives other patients and other ids.
        images_per_patient: least and most images of a patient, drawn uniformly.
        positive_share: share of images with a finding, 0..1; None is the real release's prevalence.
    """

    dataset: str
    n_patients: int
    seed: int
    images_per_patient: tuple[int, int] = IMAGES_PER_PATIENT
    positive_share: float | None = None

    def __post_init__(self) -> None:
        low, high = self.images_per_patient
        if self.n_patients < 1:
            raise UsageError(f"A phantom corpus needs at least one patient, not {self.n_patients}.")
        if not 1 <= low <= high:
            raise UsageError(f"Images per patient are a pair of least and most with 1 <= least <= most, not {low} and {high}.")
        if self.positive_share is not None and not 0 <= self.positive_share <= 1:
            raise UsageError(f"The share of positive images lies between 0 and 1, not {self.positive_share}.")


@dataclass(frozen=True)
class Shot:
    """One image to be made.

    Attributes:
        patient: index of the patient within the plan.
        index: running number of the image within its patient.
        positive: whether it shows a labelled finding.
        role: what the writer wants of it ("labelled", "unlabelled", a class, a split); each writer has its own words.
    """

    patient: int
    index: int
    positive: bool
    role: str = "labelled"


@dataclass(frozen=True)
class Written:
    """One image that lies on disk, with what label files will say of it.

    Attributes:
        boxes_xywh: whole pixels of the written image.
        label: further values that the writer's label files need; plain values only.
    """

    shot: Shot
    id: str
    patient_id: str
    report: str
    boxes_xywh: tuple[tuple[float, float, float, float], ...] = ()
    label: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """Result of the label files: usable ids in label-file order, and counts by name."""

    ids: tuple[str, ...]
    counts: dict[str, int]


def patient_key(plan: CorpusPlan, patient: int) -> str:
    """Names the patient's anatomy: other seeds and other datasets have other patients."""
    return f"{plan.dataset}/{plan.seed}/{patient}"


def patient_of(plan: CorpusPlan, shot: Shot) -> Patient:
    return draw_patient(patient_key(plan, shot.patient))


def stream_of(plan: CorpusPlan, shot: Shot) -> np.random.Generator:
    return stream("image", patient_key(plan, shot.patient), shot.index)


def patient_id(plan: CorpusPlan, shot: Shot) -> str:
    """For releases without patient ids: a number of ten digits that depends on seed and patient."""
    return f"P{number_of('patient id', patient_key(plan, shot.patient), below=10**10):010d}"


def shots_of(plan: CorpusPlan, default_share: float) -> list[Shot]:
    """All images of all patients. Exactly round(share x images) are positive (at least one if the share is above 0); some patients
    are sicker than others, so the positives of a patient come together.
    """
    rng = stream("shots", plan.dataset, plan.seed)
    low, high = plan.images_per_patient
    n_images = rng.integers(low, high + 1, plan.n_patients)
    patients = np.repeat(np.arange(plan.n_patients), n_images)
    share = default_share if plan.positive_share is None else plan.positive_share
    n_positive = int(np.clip(round(share * len(patients)), 1 if share > 0 else 0, len(patients)))
    sickness = rng.normal(0, 1.2, plan.n_patients)[patients]
    order = np.argsort(-(sickness + rng.gumbel(size=len(patients))), kind="stable")
    positive = np.zeros(len(patients), dtype=bool)
    positive[order[:n_positive]] = True
    indices = np.concatenate([np.arange(n) for n in n_images])
    return [Shot(int(p), int(i), bool(sick)) for p, i, sick in zip(patients, indices, positive, strict=True)]


def scaled_box(box: tuple[float, float, float, float], grid_height: int, height: int, width: int) -> tuple[float, float, float, float]:
    """A box of the scene's grid in whole pixels of a picture of that height, kept inside the picture."""
    scale = height / grid_height
    x, y = max(round(box[0] * scale), 1), max(round(box[1] * scale), 1)
    right, bottom = min(round((box[0] + box[2]) * scale), width - 1), min(round((box[1] + box[3]) * scale), height - 1)
    return float(x), float(y), float(right - x), float(bottom - y)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """UTF-8 with LF line ends on every system."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
