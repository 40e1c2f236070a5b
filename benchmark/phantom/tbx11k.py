"""The layout of TBX11K (docs/sources.md, TBX11K): 512-pixel RGB PNG by kind of patient, lists of file names, boxes as COCO JSON.

Kinds are as frequent as in the training list. Left out is what the section does not say: the XML annotations, `imgs/extra`, and what the
test list holds beyond its unlabelled images. Whether the JSON names images without boxes is not said; here it names all of its list.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, scaled_box, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import Look, draw, large_enough, opacity, small_disc
from benchmark.phantom.findings import Finding, effusion
from benchmark.phantom.radiograph import GRID, compose, develop
from benchmark.phantom.seeds import stream

DEFAULT_POSITIVE_SHARE = 600 / 6_600  # docs/sources.md, TBX11K, training list
VAL_SHARE = 1_800 / 8_400  # of the labelled images
TEST_SHARE = 0.02  # the release has 2,800 beside 8,400; nobody can score them, so a few stand for them
SICK_SHARE = 0.5  # of the labelled images without tuberculosis: 3,000 healthy, 3,000 sick
SIDE = 512
CATEGORIES = {1: "ActiveTuberculosis", 2: "ObsoletePulmonaryTuberculosis", 3: "PulmonaryTuberculosis"}
WEIGHTS = {
    "ActiveTuberculosis": 6,
    "ObsoletePulmonaryTuberculosis": 3,
    "PulmonaryTuberculosis": 1,
}  # made up
PER_IMAGE = {1: 8, 2: 2}  # made up; active beside obsolete exists in the release
LOOKS: dict[str, Look] = {"ActiveTuberculosis": opacity, "ObsoletePulmonaryTuberculosis": small_disc, "PulmonaryTuberculosis": opacity}
FOLDERS = {"health": "h", "sick": "s", "tb": "tb", "test": "t"}  # folder -> letters before the number; the test images' are made up
SUBSETS = ("train", "val")


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are `<subset>/<folder>/<file stem>`. Kinds are shared out evenly between the subsets."""
    rng = stream("parts", plan.dataset, plan.seed)
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    well = [one for one in planned if not one.positive]
    well = [well[k] for k in rng.permutation(len(well))]
    n_sick = round(SICK_SHARE * len(well))
    kinds = {"tb": [one for one in planned if one.positive], "sick": well[:n_sick], "health": well[n_sick:]}
    shots = []
    for folder, group in kinds.items():
        if len(group) > 9_999:
            raise UsageError(f"tbx11k: the release numbers files with four digits, so a phantom cannot hold {len(group):,} of {folder}.")
        n_val = round(VAL_SHARE * len(group))
        for k, one in enumerate(group, start=1):
            shots.append(replace(one, role=f"{'val' if k <= n_val else 'train'}/{folder}/{FOLDERS[folder]}{k:04d}"))
    n_test = max(1, round(TEST_SHARE * len(planned)))
    return shots + [Shot(plan.n_patients + k, 0, k % 5 == 0, f"test/test/{FOLDERS['test']}{k + 1:04d}") for k in range(n_test)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    subset, folder, stem = shot.role.split("/")
    patient = patient_of(plan, shot)
    boxes: list[tuple[str, tuple[float, ...]]] = []
    if shot.positive:
        names = _draw_names(rng)
        radiograph, drawn = draw(patient, names, LOOKS, "", rng)
        boxes = [(name, scaled_box(box, GRID, SIDE, SIDE)) for name, _, box in drawn]
    else:

        def findings(scene: Scene) -> list[Finding]:
            return [large_enough(effusion, scene, SIDES[int(rng.integers(2))], rng)] if folder == "sick" else []

        radiograph = compose(patient, rng, findings)
    path = root / "imgs" / folder / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, SIDE, SIDE, rng)).convert("RGB").save(path, compress_level=1)
    return Written(shot, stem, patient_id(plan, shot), radiograph.report, (), {"boxes": boxes if subset != "test" else []})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    listed = {subset: [one for one in written if one.shot.role.startswith(f"{subset}/")] for subset in (*SUBSETS, "test")}
    (root / "lists").mkdir()
    (root / "annotations" / "json").mkdir(parents=True)
    for subset, ones in {**listed, "trainval": [*listed["train"], *listed["val"]]}.items():
        write_lines(root / "lists" / f"TBX11K_{subset}.txt", [_file(one) for one in ones])
        if subset != "test":
            path = root / "annotations" / "json" / f"TBX11K_{subset}.json"
            path.write_text(json.dumps(_coco(ones)) + "\n", encoding="utf-8", newline="\n")
    labelled = [*listed["train"], *listed["val"]]
    counts = {"images": len(labelled), "patients": len({one.patient_id for one in labelled}), "unlabelled_images": len(listed["test"])}
    counts |= {"boxes": sum(len(one.label["boxes"]) for one in labelled), "positives": sum(bool(one.label["boxes"]) for one in labelled)}
    for subset in SUBSETS:
        counts[f"{subset}_images"] = len(listed[subset])
        for folder in ("health", "sick", "tb"):
            counts[f"{subset}_{folder}"] = sum(f"/{folder}/" in one.shot.role for one in listed[subset])
    return Listing(tuple(one.id for one in labelled), counts)


def _draw_names(rng: np.random.Generator) -> list[str]:
    n = int(rng.choice(list(PER_IMAGE), p=np.array(list(PER_IMAGE.values())) / sum(PER_IMAGE.values())))
    if n == 2:
        return ["ActiveTuberculosis", "ObsoletePulmonaryTuberculosis"]
    return [str(rng.choice(list(WEIGHTS), p=np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())))]


def _file(one: Written) -> str:
    """Relative to `imgs`, in lists and JSON alike."""
    return one.shot.role.split("/", 1)[1] + ".png"


def _coco(ones: list[Written]) -> dict[str, list]:
    numbers = {name: number for number, name in CATEGORIES.items()}
    images = [{"id": k, "file_name": _file(one), "width": SIDE, "height": SIDE} for k, one in enumerate(ones, start=1)]
    boxes = [(k, name, box) for k, one in enumerate(ones, start=1) for name, box in one.label["boxes"]]
    annotations = [
        {"id": n, "image_id": k, "category_id": numbers[name], "iscrowd": 0, "area": int(box[2] * box[3]), "bbox": list(box)}
        for n, (k, name, box) in enumerate(boxes, start=1)
    ]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
