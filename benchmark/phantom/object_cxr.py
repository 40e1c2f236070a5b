"""The layout of Object-CXR (docs/sources.md, Object-CXR): numbered JPEGs of varying size, train.csv and dev.csv with three outlines.

File names count from 00001 as in the release, so two seeds share names but no image. Support devices are drawn and never annotated.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.devices import ForeignObject, draw_foreign_object
from benchmark.phantom.findings import Finding, draw_opacities
from benchmark.phantom.radiograph import GRID, compose, develop
from benchmark.phantom.seeds import stream

DEFAULT_POSITIVE_SHARE = 0.5  # balanced by design, docs/sources.md, Object-CXR
OBJECTS_PER_POSITIVE = {1: 2_090, 2: 1_226, 3: 602, 4: 266, 5: 177, 6: 76, 7: 40, 8: 13, 9: 6, 10: 3, 17: 1}  # docs/sources.md, Object-CXR
DEV_SHARE = 1_000 / 9_000
N_TRAIN, FIRST_DEV = 8_000, 8_001  # the release's numbering
HEIGHTS, ASPECTS = (1_000, 1_500), (0.85, 1.25)  # the release has 2,000 to 5,000 pixels per side
OPACITY_SHARE = 0.10  # images with an opacity, which nobody annotates here


def shots(plan: CorpusPlan) -> list[Shot]:
    """Images in the order of their numbers: train, then dev; both halves are balanced alike."""
    rng = stream("parts", plan.dataset, plan.seed)
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    train, dev = [], []
    for positive in (True, False):
        group = [one for one in planned if one.positive == positive]
        order = rng.permutation(len(group))
        n_dev = max(1, round(DEV_SHARE * len(group)))
        dev += [group[k] for k in order[:n_dev]]
        train += [group[k] for k in order[n_dev:]]
    if len(train) > N_TRAIN:
        raise UsageError(
            f"object-cxr: the release numbers {N_TRAIN:,} training images, so a phantom cannot hold {len(train):,}. Ask for fewer."
        )
    train = [train[k] for k in rng.permutation(len(train))]
    dev = [dev[k] for k in rng.permutation(len(dev))]
    numbered = [(one, "train", k) for k, one in enumerate(train, start=1)] + [(one, "dev", k) for k, one in enumerate(dev, start=FIRST_DEV)]
    return [replace(one, role=f"{subset}/{number:05d}") for one, subset, number in numbered]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    height = int(rng.integers(*HEIGHTS))
    width = round(height * rng.uniform(*ASPECTS))
    n_objects = _draw_objects(rng) if shot.positive else 0

    def findings(scene: Scene) -> list[Finding]:
        return draw_opacities(scene, 1, rng) if rng.random() < OPACITY_SHARE else []

    def objects(scene: Scene) -> list[ForeignObject]:
        return [draw_foreign_object(scene, SIDES[int(rng.integers(2))], rng) for _ in range(n_objects)]

    radiograph = compose(patient, rng, findings, make_objects=objects, aspect=width / height)
    path = root / f"{shot.role}.jpg"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(develop(radiograph, height, width, rng)).save(path, "JPEG", quality=85)
    outlines = [_outline(one, height / GRID, height, width) for one in radiograph.objects]
    label = {"annotation": ";".join(outlines), "n_objects": n_objects}
    return Written(shot, path.stem, patient_id(plan, shot), radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    counts: dict[str, int] = {}
    for subset in ("train", "dev"):
        listed = [one for one in written if one.shot.role.startswith(subset)]
        write_lines(root / f"{subset}.csv", ["image_name,annotation", *(f"{one.id}.jpg,{one.label['annotation']}" for one in listed)])
        counts[f"{subset}_images"] = len(listed)
        counts[f"{subset}_positives"] = sum(one.label["n_objects"] > 0 for one in listed)
        counts[f"{subset}_boxes"] = sum(one.label["n_objects"] for one in listed)
    for name in ("images", "positives", "boxes"):
        counts[name] = counts[f"train_{name}"] + counts[f"dev_{name}"]
    counts["patients"] = len({one.patient_id for one in written})
    return Listing(tuple(one.id for one in written), counts)


def _draw_objects(rng: np.random.Generator) -> int:
    counts = np.array(list(OBJECTS_PER_POSITIVE.values()), dtype=float)
    return int(rng.choice(list(OBJECTS_PER_POSITIVE), p=counts / counts.sum()))


def _outline(one: ForeignObject, scale: float, height: int, width: int) -> str:
    """The release's text of one object, in whole pixels of the picture and inside it."""
    points = np.clip(np.rint((one.points + 0.5) * scale), 0, [width - 1, height - 1]).astype(int)
    return " ".join(map(str, [one.shape, *points.reshape(-1)]))
