"""The layout of NIH-CXR-LT over ChestX-ray14's files (docs/sources.md, NIH-CXR-LT): four lists of single labels, a long tail.

Of the twenty labels the ten that this phantom can draw occur, each half as often as the one before it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import LOOKS, draw
from benchmark.phantom.radiograph import develop
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 0.5  # made up: more findings than in the release, so that a small corpus has some of each
SHARES = {"test": 0.3, "balanced-val": 0.2}  # of the patients, made up
SIZE = 512  # half of the release's
HEART, NORMAL = "Cardiomegaly", "No Finding"
CLASSES = (
    *("No Finding", "Infiltration", "Atelectasis", "Effusion", "Nodule", "Mass", "Pneumothorax", "Consolidation", "Pleural_Thickening"),
    *("Cardiomegaly", "Fibrosis", "Edema", "Tortuous Aorta", "Emphysema", "Pneumonia", "Calcification of the Aorta", "Pneumoperitoneum"),
    *("Hernia", "Subcutaneous Emphysema", "Pneumomediastinum"),
)
DRAWN = tuple(name for name in CLASSES if name in LOOKS or name == HEART)
TAIL = 0.5 ** np.arange(len(DRAWN))


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the lists: whole patients belong to one; the balanced test list is part of the other."""
    n_test, n_held = (max(1, round(share * plan.n_patients)) for share in (SHARES["test"], sum(SHARES.values())))

    def subset(patient: int) -> str:
        return "test" if patient < n_test else "balanced-val" if patient < n_held else "train"

    return [replace(one, role=subset(one.patient)) for one in shots_of(plan, DEFAULT_POSITIVE_SHARE)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    name = str(rng.choice(DRAWN, p=TAIL / TAIL.sum())) if shot.positive else NORMAL
    radiograph, _ = draw(patient_of(plan, shot), [] if name == NORMAL else [name], LOOKS, HEART, rng)
    patient = 40_000 + number_of("nih-lt", plan.seed, below=50_000) + shot.patient  # the release's end with 30,805
    sample_id = f"{patient:08d}_{shot.index:03d}"
    (root / "images").mkdir(exist_ok=True)
    Image.fromarray(develop(radiograph, SIZE, SIZE, rng)).save(root / "images" / f"{sample_id}.png", compress_level=1)
    return Written(shot, sample_id, f"{patient:08d}", radiograph.report, (), {"class": name})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    listed = {subset: [one for one in written if one.shot.role == subset] for subset in ("train", "balanced-val", "test")}
    first: dict[str, Written] = {}
    for one in listed["test"]:
        first.setdefault(one.label["class"], one)
    listed["balanced-test"] = list(first.values())  # one of each class
    for subset, ones in listed.items():
        header = ",".join(("id", *CLASSES, "subj_id"))
        rows = [f"{one.id}.png,{','.join(str(int(c == one.label['class'])) for c in CLASSES)},{int(one.patient_id)}" for one in ones]
        write_lines(root / f"nih-cxr-lt_single-label_{subset}.csv", [header, *rows])
    counts = {"images": len(written), "patients": len({one.patient_id for one in written})}
    counts |= {f"{subset}_images": len(ones) for subset, ones in listed.items()}
    order = [one.id for subset in ("train", "balanced-val", "balanced-test", "test") for one in listed[subset]]
    return Listing(tuple(dict.fromkeys(order)), counts)
