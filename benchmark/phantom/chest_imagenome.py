"""The layout of Chest ImaGenome's gold set over MIMIC-CXR-JPG (docs/sources.md, ImaGenome): a row per place, columns as released.

Of the 29 places the nine that this phantom's anatomy tells apart occur. The silver set, attributes and comparisons are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom.anatomy import Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, scaled_box, shots_of, stream_of, write_lines
from benchmark.phantom.chexpert import draw_findings
from benchmark.phantom.mimic_cxr import JPG, place_of
from benchmark.phantom.radiograph import GRID, compose, develop

DEFAULT_POSITIVE_SHARE = 0.7  # made up: whether a finding is there changes no box
HEIGHT, WIDTH = 400, 330  # MIMIC-CXR-JPG keeps full resolution
BASE = "chest-imagenome/1.0.0"
FRAME = 224  # of the boxes that the reader leaves alone
COLUMNS = (
    "image_id,x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2,original_width,original_height,"
    "annotator,coord224,coord_original"
)
ZONES = {"upper lung zone": (0.0, 0.4), "mid lung zone": (0.4, 0.7), "lower lung zone": (0.7, 1.0)}  # shares of the lung's height, made up


def shots(plan: CorpusPlan) -> list[Shot]:
    return shots_of(plan, DEFAULT_POSITIVE_SHARE)


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = ["Consolidation"] if shot.positive else []
    radiograph = compose(patient_of(plan, shot), rng, lambda scene: draw_findings(names, scene, rng), aspect=WIDTH / HEIGHT)
    place = place_of(plan, shot, "chest-imagenome")
    (root / JPG / place.path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, HEIGHT, WIDTH, rng)).save(root / JPG / place.path, quality=92)
    boxes = {name: scaled_box(box, GRID, HEIGHT, WIDTH) for name, box in _places(radiograph.scene).items()}
    label = {"path": place.path, "subject": place.subject, "study": place.study, "boxes": boxes}
    return Written(shot, place.dicom, str(place.subject), radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    rows = []
    for one in written:
        for name, (x, y, width, height) in one.label["boxes"].items():
            small = [round(value * FRAME / HEIGHT) for value in (x, y, x + width, y + height)]
            original = ",".join(str(int(value)) for value in (x, x + width, y, y + height, width, height))
            sizes = f"{small[2] - small[0]},{small[3] - small[1]}"
            rows.append(f'{one.id}.dcm,{",".join(map(str, small))},{sizes},{name},{one.id}_{name},{original},1,"{small}","[{original}]"')
    for folder in ("gold_dataset", "utils"):
        (root / BASE / folder).mkdir(parents=True, exist_ok=True)
    write_lines(root / BASE / "gold_dataset" / "gold_bbox_coordinate_annotations_1000images.csv", [COLUMNS, *rows])
    records = [f"{one.label['subject']},{one.label['study']},{one.id},{one.label['path'].removesuffix('.jpg')}.dcm,PA" for one in written]
    write_lines(root / BASE / "utils" / "cxr-record-list_view.csv", ["subject_id,study_id,dicom_id,path,ViewPosition", *records])
    counts = {
        "images": len(written),
        "patients": len({one.patient_id for one in written}),
        "boxes": len(rows),
        "box_rows": len(rows),
    }
    return Listing(tuple(one.id for one in written), counts)


def _places(scene: Scene) -> dict[str, tuple[float, float, float, float]]:
    """Boxes x, y, width, height in pixels of the scene's grid: lungs with three zones each, and the heart."""
    found = {"cardiac silhouette": _extent(scene.heart > 0.5)}
    for side, lung in scene.lungs.items():
        x, y, width, height = found[f"{side} lung"] = _extent(lung > 0.5)
        found |= {f"{side} {zone}": (x, y + top * height, width, (bottom - top) * height) for zone, (top, bottom) in ZONES.items()}
    return found


def _extent(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1 - columns[0]), float(rows[-1] + 1 - rows[0])
