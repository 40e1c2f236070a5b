"""The layout of CheXpert v1.0 small (docs/sources.md, CheXpert): JPEG files by patient and study, 14 findings, blank or uncertain too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.phantom.anatomy import SIDES, Patient, Scene, Side
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.findings import Finding, atelectasis, draw_opacities, effusion, interstitial
from benchmark.phantom.radiograph import Radiograph, compose, develop
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 0.7
VALID_SHARE = 0.2  # of the patients; the release has 200 of 64,740
TEST_SHARE = 0.1  # so many more, as the release's 500 came later and from elsewhere
UNCERTAIN_SHARE = 0.2  # of the findings that are there and said so
SIZE = 320  # the shorter side of the small release
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_OBSERVATIONS)
DRAWN = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the tables: whole patients belong to "train" or "valid". Those of "test" come on top of the plan's."""
    n_valid, n_test = (max(1, round(share * plan.n_patients)) for share in (VALID_SHARE, TEST_SHARE))
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    tested = shots_of(replace(plan, n_patients=n_test), DEFAULT_POSITIVE_SHARE)
    shown = [replace(one, role="valid" if one.patient < n_valid else "train") for one in planned]
    return shown + [replace(one, patient=plan.n_patients + one.patient, role="test") for one in tested]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = [str(name) for name in rng.choice(DRAWN, int(rng.integers(1, 3)), replace=False)] if shot.positive else []
    patient, radiograph = draw_named(plan, shot, names, rng)
    # Patient numbers differ between corpora of different seeds, and leave the release's range free.
    number = 70_000 + number_of("chexpert", plan.seed, below=20_000) + shot.patient
    path = f"{shot.role}/patient{number:05d}/study{shot.index + 1}/view1_frontal.jpg"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, SIZE, SIZE + 70, rng)).save(root / path, quality=92)
    sure = shot.role != "train"
    values = {name: "1.0" if sure or rng.random() >= UNCERTAIN_SHARE else "-1.0" for name in names}
    blank = "0.0" if sure else ""
    cells = [values.get(name, "1.0" if name == "No Finding" and not names else blank) for name in CHEXPERT_OBSERVATIONS]
    view = radiograph.scene.pose.view
    row = f"CheXpert-v1.0-small/{path},{'Female' if patient.sex == 'F' else 'Male'},{patient.age},Frontal,{view},{','.join(cells)}"
    return Written(shot, path, f"patient{number:05d}", radiograph.report, (), {"row": row, "values": values})


def draw_named(plan: CorpusPlan, shot: Shot, names: Sequence[str], rng: np.random.Generator) -> tuple[Patient, Radiograph]:
    """The shot's patient, and the radiograph with the named findings."""
    patient = patient_of(plan, shot)

    def findings(scene: Scene) -> list[Finding]:
        return draw_findings(names, scene, rng)

    return patient, compose(patient, rng, findings, heart_enlarged="Cardiomegaly" in names)


def draw_findings(names: Sequence[str], scene: Scene, rng: np.random.Generator) -> list[Finding]:
    """What each named finding looks like, all on one side; an enlarged heart belongs to the patient's scene."""
    side = SIDES[int(rng.integers(2))]
    return [finding for name in names if name in _DRAW for finding in _DRAW[name](scene, side, rng)]


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    tables = {subset: [one for one in written if one.shot.role == subset] for subset in ("train", "valid", "test")}
    for subset in ("train", "valid"):
        write_lines(root / f"{subset}.csv", [HEADER, *(one.label["row"] for one in tables[subset])])
    _write_test_labels(root / "groundtruth.csv", tables["test"])
    _write_prior_list(root / "chexpert_5x200.json", tables["train"])
    counts = {
        "images": len(written),
        "train_rows": len(tables["train"]),
        "train_frontal": len(tables["train"]),
        "train_patients": len({one.patient_id for one in tables["train"]}),
        "valid_rows": len(tables["valid"]),
        "valid_frontal": len(tables["valid"]),
        "test_studies": len(tables["test"]),
        "test_studies with an image": len(tables["test"]),
    }
    for name in DRAWN:
        for word, value in (("positive", "1.0"), ("uncertain", "-1.0")):
            counts[f"{name} {word}"] = sum(one.label["values"].get(name) == value for one in tables["train"])
        counts[f"{name} test positive"] = sum(name in one.label["values"] for one in tables["test"])
    return Listing(tuple(one.id for members in tables.values() for one in members), counts)


def _write_test_labels(path: Path, test: list[Written]) -> None:
    """As groundtruth.csv: a row a study, every finding 0 or 1."""
    rows = []
    for one in test:
        there = one.label["values"] or {"No Finding": "1.0"}
        study = one.id.rpartition("/")[0]
        rows.append(",".join((f"CheXpert-v1.0/{study}", *(str(int(name in there)) for name in CHEXPERT_OBSERVATIONS))))
    write_lines(path, [",".join(("Study", *CHEXPERT_OBSERVATIONS)), *rows])


def _write_prior_list(path: Path, train: list[Written]) -> None:
    """As PRIOR's chexpert_5x200.json: images whose only finding of the five is certain, as many of each class, in class order."""
    alone = {c: [(k, one) for k, one in enumerate(train) if one.label["values"] == {c: "1.0"}] for c in DRAWN}
    n = min(map(len, alone.values()))
    content = {str(k): {"image_path": one.id, "label": [int(c == name) for c in DRAWN]} for name in DRAWN for k, one in alone[name][:n]}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")


_DRAW: dict[str, Callable[[Scene, Side, np.random.Generator], list[Finding]]] = {
    "Atelectasis": lambda scene, side, rng: [atelectasis(scene, side, rng)],
    "Consolidation": lambda scene, side, rng: draw_opacities(scene, 1, rng, kind="consolidation", strength=1.3),
    "Edema": lambda scene, side, rng: [interstitial(scene, one, rng) for one in SIDES],
    "Pleural Effusion": lambda scene, side, rng: [effusion(scene, side, rng)],
}
