"""The layout of the made-up release: pictures of 512 pixels, and one table."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmark.phantom.anatomy import Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, scaled_box, shots_of, stream_of, write_lines
from benchmark.phantom.findings import Finding, draw_opacities
from benchmark.phantom.radiograph import GRID, compose, develop

DEFAULT_POSITIVE_SHARE = 0.5
SIDE = 512


def shots(plan: CorpusPlan) -> list[Shot]:
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    return [Shot(one.patient, one.index, one.positive, "test" if one.patient % 4 == 0 else "train") for one in planned]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)

    def findings(scene: Scene) -> list[Finding]:
        return draw_opacities(scene, 2, rng) if shot.positive else []

    radiograph = compose(patient_of(plan, shot), rng, findings)
    name = f"{shot.patient:04d}-{shot.index}"
    Image.fromarray(develop(radiograph, SIDE, SIDE, rng)).save(root / f"{name}.png")
    boxes = tuple(scaled_box(one.box(), GRID, SIDE, SIDE) for one in radiograph.findings)
    return Written(shot, name, patient_id(plan, shot), radiograph.report, boxes)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    lines = ["image,patient,part,x,y,width,height"]
    for one in written:
        about = f"{one.id},{one.patient_id},{one.shot.role}"
        lines += [f"{about},{x:.0f},{y:.0f},{w:.0f},{h:.0f}" for x, y, w, h in one.boxes_xywh] or [f"{about},,,,"]
    write_lines(root / "boxes.csv", lines)
    counts = {
        "images": len(written),
        "boxes": sum(len(one.boxes_xywh) for one in written),
        "patients": len({one.patient_id for one in written}),
    }
    return Listing(tuple(one.id for one in written), counts)
