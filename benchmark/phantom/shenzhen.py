"""The layout of Shenzhen (docs/sources.md, Shenzhen): PNG images, and for most of them one PNG mask of both lungs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom import montgomery
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, stream_of
from benchmark.phantom.radiograph import develop, enlarge

MASKED_SHARE = 566 / 662  # docs/sources.md, Shenzhen
SIZES = ((300, 294), (260, 300))  # of about 3000 in the release; they vary


def shots(plan: CorpusPlan) -> list[Shot]:
    """One image a patient: the plan's images per patient are ignored."""
    return montgomery.shots(plan)


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    height, width = SIZES[int(rng.integers(len(SIZES)))]
    radiograph = montgomery.lungs_of(plan, shot, rng, width / height)
    name = f"CHNCXR_{montgomery.number(plan, shot):04d}_{int(shot.positive)}"
    masked = shot.patient == 0 or rng.random() < MASKED_SHARE
    for folder in ("ChinaSet_AllFiles/CXR_png", "mask/mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, height, width, rng)).save(root / "ChinaSet_AllFiles/CXR_png" / f"{name}.png", compress_level=1)
    if masked:
        lungs = sum(lung.astype(np.float32) for lung in radiograph.scene.lungs.values())
        inside = enlarge(np.asarray(lungs, np.float32), height, width) > 0.5
        Image.fromarray(inside.astype(np.uint8) * 255).save(root / "mask/mask" / f"{name}_mask.png")
    return Written(shot, name, patient_id(plan, shot), radiograph.report, (), {"masked": masked})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    """There is no table: files are the labels."""
    masked = sorted(one.id for one in written if one.label["masked"])
    return Listing(tuple(masked), {"images": len(written), "masked_images": len(masked)})
