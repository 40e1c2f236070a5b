"""The layout of ChestX-ray14 (docs/sources.md, ChestX-ray14): PNG images by patient, whole-image labels, official lists, boxes.

The release has boxes on 880 of 112,120 images; a phantom is mostly that part. Boxed images belong to the test list, and there are always
enough images without a finding for LoVT's sample of 100 to 880. The broken header of the box list is the release's. Further patients of the
other list have findings that are labelled and not outlined, so that labels can be learnt; of the 14 labels the eight with boxes are drawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import LOOKS, draw, draw_names
from benchmark.phantom.radiograph import GRID, develop
from benchmark.phantom.seeds import number_of, stream

DEFAULT_POSITIVE_SHARE = 0.7  # of all images: boxed. LoVT's task has 880 of 980; the rest here is the label file's other kinds of images
SIZE = 1024
NORMALS_PER_BOXED = 100 / 880  # LoVT's sample, docs/sources.md, ChestX-ray14
BOXES_PER_CLASS = {  # docs/sources.md, ChestX-ray14
    "Atelectasis": 180,
    "Effusion": 153,
    "Cardiomegaly": 146,
    "Infiltrate": 123,
    "Pneumonia": 120,
    "Pneumothorax": 98,
    "Mass": 85,
    "Nodule": 79,
}
CLASSES_PER_IMAGE = {1: 787, 2: 83, 3: 9, 4: 1}  # of the 880 boxed images
TRAIN_VAL_SHARE = 0.10  # patients of train_val_list.txt; none of their images has a box
FURTHER_SHARE = 0.5  # half as many more patients, of train_val_list.txt, one image each; the release has 77 % of its images there
FURTHER_POSITIVE_SHARE = 1 - 60_361 / 112_120  # docs/sources.md, ChestX-ray14: images with another label than "No Finding"
SHARED_NORMAL_SHARE = 0.15  # a boxed patient's other images: seldom without a finding, so that splits share few patients
NO_FINDING = "No Finding"
ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
RGBA_EVERY = 200  # about 519 of 112,120 in the release


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles: "boxed", "unboxed" (a finding nobody outlined), "normal"; and of the other list "train", "train-unboxed"."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    if 2 * plan.n_patients + len(planned) > 10**6:
        raise UsageError("nih-cxr: a phantom holds at most about a million patients, because patient numbers have eight digits.")
    rng = stream("roles", plan.dataset, plan.seed)
    sick = {one.patient for one in planned if one.positive}
    well = sorted({one.patient for one in planned} - sick)
    other = set(rng.permutation(well)[: round(TRAIN_VAL_SHARE * plan.n_patients)].tolist())
    shots = []
    for one in planned:
        if one.positive:
            role = "boxed"
        elif one.patient in other:
            role = "train"
        else:
            role = "unboxed" if one.patient in sick and rng.random() >= SHARED_NORMAL_SHARE else "normal"
        shots.append(replace(one, role=role))
    n_boxed, n_normal = (sum(one.role == role for one in shots) for role in ("boxed", "normal"))
    missing = max(0, round(n_boxed * NORMALS_PER_BOXED) + 1 - n_normal)
    shots += [Shot(plan.n_patients + k, 0, False, "normal") for k in range(missing)]
    n_further = max(2, round(FURTHER_SHARE * plan.n_patients))
    n_positive = max(1, round(FURTHER_POSITIVE_SHARE * n_further))
    first = plan.n_patients + missing
    # Not "positive": nobody outlined them, and that is what a share of positive images counts here.
    return shots + [Shot(first + k, 0, False, "train-unboxed" if k < n_positive else "train") for k in range(n_further)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    classes = draw_names(BOXES_PER_CLASS, CLASSES_PER_IMAGE, rng) if shot.role.endswith("boxed") else []
    radiograph, drawn = draw(patient, classes, LOOKS, "Cardiomegaly", rng)
    boxes = [(name, _scaled(box)) for name, _, box in drawn]
    number = first_patient_number(plan) + shot.patient
    stem = f"{number:08d}_{shot.index:03d}"
    folder = root / ("images_001" if shot.patient < plan.n_patients / 2 else "images_002") / "images"
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(develop(radiograph, SIZE, SIZE, rng))
    if (shot.patient, shot.index) == (0, 0) or number_of("rgba", plan.seed, stem, below=RGBA_EVERY) == 0:
        picture = picture.convert("RGBA")
    picture.save(folder / f"{stem}.png", compress_level=1)
    labels = "|".join(sorted("Infiltration" if name == "Infiltrate" else name for name in classes)) or NO_FINDING
    view = radiograph.scene.pose.view
    label = {
        "boxes": boxes if shot.role == "boxed" else [],
        "row": f"{stem}.png,{labels},{shot.index},{number},{patient.age},{patient.sex},{view},2500,2048,0.168,0.168",
    }
    return Written(shot, stem, f"{number:08d}", radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    order = stream("rows", plan.dataset, plan.seed).permutation(len(written))  # the release's rows are not in file-name order
    rows = [written[k] for k in order]
    write_lines(root / "Data_Entry_2017_v2020.csv", [ENTRY_HEADER, *(one.label["row"] for one in rows)])
    boxes = [(name, one, box) for name in BOXES_PER_CLASS for one in written for other, box in one.label["boxes"] if other == name]
    lines = [f"{one.id}.png,{name},{','.join(map(repr, box))}" for name, one, box in boxes]
    write_lines(root / "BBox_List_2017.csv", ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *lines])
    train = [one for one in written if one.shot.role.startswith("train")]
    test = [one for one in written if not one.shot.role.startswith("train")]
    for name, listed in (("train_val_list.txt", train), ("test_list.txt", test)):
        write_lines(root / name, sorted(f"{one.id}.png" for one in listed))
    boxed = [one for one in written if one.label["boxes"]]
    counts = {
        "images": len(written),
        "patients": len({one.patient_id for one in written}),
        "boxes": len(boxes),
        "boxed_images": len(boxed),
        "positives": len(boxed),
        "boxed_patients": len({one.patient_id for one in boxed}),
        "normal_test_images": sum(one.shot.role == "normal" for one in written),
        "test_list": len(test),
        "train_val_list": len(train),
    }
    counts |= {f"boxes_{name.lower()}": sum(other == name for other, _, _ in boxes) for name in BOXES_PER_CLASS}
    findings = [one.label["row"].split(",")[1].split("|") for one in written]
    counts["labels_no_finding"] = sum(labels == [NO_FINDING] for labels in findings)
    counts["labels_several"] = sum(len(labels) > 1 for labels in findings)
    named = Counter(label for labels in findings for label in labels if label != NO_FINDING)
    counts |= {f"labels_{name.lower()}": n for name, n in sorted(named.items())}
    return Listing(tuple(one.id for one in rows), counts)


def first_patient_number(plan: CorpusPlan) -> int:
    """Patients count upwards from here; far above the release's 30,805, and another stretch for every seed."""
    return 100_000 + number_of("nih patients", plan.seed, below=98_000_000)


def _scaled(box: tuple[float, float, float, float]) -> tuple[float, ...]:
    """Fractional pixels of 1024, as in the release."""
    return tuple(value * SIZE / GRID for value in box)
