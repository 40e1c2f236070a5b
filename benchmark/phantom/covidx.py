"""The layout of COVIDx with lists 9A (docs/sources.md, COVIDx): pictures of several sizes and kinds, two lists without a header.

As in the release, normal and pneumonia images are drawn differently from COVID images in size and file type: the source is a shortcut.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image

from benchmark.phantom.anatomy import Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_key, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.findings import Finding, draw_opacities
from benchmark.phantom.radiograph import compose, develop
from benchmark.phantom.seeds import apart, number_of

DEFAULT_POSITIVE_SHARE = 16_490 / 30_130  # COVID-19 in the train list of 9A
PNEUMONIA_SHARE = 5_555 / (5_555 + 8_085)  # of the others
TEST_SHARE = 0.25  # of the patients; the release has 400 of 30,530 images, too few to keep in a phantom
CLASSES = ("normal", "pneumonia", "COVID-19")


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the lists: whole patients belong to "train" or "test"."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    n_test = max(1, round(TEST_SHARE * plan.n_patients))
    return [Shot(one.patient, one.index, one.positive, "test" if one.patient < n_test else "train") for one in planned]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    label = "COVID-19" if shot.positive else "pneumonia" if rng.random() < PNEUMONIA_SHARE else "normal"

    def findings(scene: Scene) -> list[Finding]:
        if label == "COVID-19":
            return draw_opacities(scene, 3, rng, kind="ground glass", strength=0.8)
        return draw_opacities(scene, 1, rng) if label == "pneumonia" else []

    radiograph = compose(patient, rng, findings)
    number = _numbers(plan)[shot.patient]
    side = int(rng.integers(360, 520)) if label == "COVID-19" else 512
    name = f"phantom-{number:09d}-{shot.index}.{'jpg' if label == 'COVID-19' else 'png'}"
    folder = root / shot.role
    folder.mkdir(exist_ok=True)
    grey = Image.fromarray(develop(radiograph, side, side, rng))
    picture = grey.convert("RGB") if rng.random() < 0.3 else grey
    picture.save(folder / name)
    return Written(shot, name, str(number), radiograph.report, (), {"class": label})


@cache
def _numbers(plan: CorpusPlan) -> list[int]:
    """By patient."""
    return apart((number_of("covidx", patient_key(plan, patient), below=10**9) for patient in range(plan.n_patients)), 10**9)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    listed = {subset: [one for one in written if one.shot.role == subset] for subset in ("train", "test")}
    for subset, members in listed.items():
        lines = [f"{one.patient_id} {one.id} {one.label['class']} {'ricord' if one.shot.positive else 'rsna'}" for one in members]
        write_lines(root / f"{subset}.txt", lines)
    counts = {
        "images": len(written),
        "train_list": len(listed["train"]),
        "test_list": len(listed["test"]),
        "positives": sum(one.shot.positive for one in written),
    }
    counts |= {f"train_{name.lower()}": sum(one.label["class"] == name for one in listed["train"]) for name in CLASSES}
    return Listing(tuple(one.id for subset in ("train", "test") for one in listed[subset]), counts)
