"""The layout of Open-I (docs/sources.md, Open-I): one XML file a report, PNG pictures named in it, some with empty sections."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, shots_of, stream_of
from benchmark.phantom.chexpert import DRAWN, draw_named
from benchmark.phantom.radiograph import develop
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 0.6
HEIGHT, WIDTH = 420, 512  # the release's PNG files are 512 wide
SILENT_SHARE = 0.08  # reports whose findings and impression are empty


def shots(plan: CorpusPlan) -> list[Shot]:
    """One report a shot; all are tested on."""
    return shots_of(plan, DEFAULT_POSITIVE_SHARE)


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = [str(name) for name in rng.choice(DRAWN, int(rng.integers(1, 3)), replace=False)] if shot.positive else []
    _, radiograph = draw_named(plan, shot, names, rng)
    # The release's reports are CXR1 to CXR3999.
    number = 10_000 + 10 * (number_of("open-i", plan.seed, below=10**6) + shot.patient) + shot.index
    stem = f"CXR{number}_IM-{number % 10_000:04d}-1001"
    (root / "png").mkdir(exist_ok=True)
    Image.fromarray(develop(radiograph, HEIGHT, WIDTH, rng)).convert("RGB").save(root / "png" / f"{stem}.png", compress_level=1)
    label = {"number": number, "stem": stem, "silent": bool(rng.random() < SILENT_SHARE)}
    return Written(shot, f"CXR{number}", patient_id(plan, shot), radiograph.report, (), label)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    (root / "ecgen-radiology").mkdir()
    for one in written:
        (root / "ecgen-radiology" / f"{one.label['number']}.xml").write_text(_xml(one), encoding="utf-8", newline="\n")
    ordered = sorted(written, key=lambda one: (len(str(one.label["number"])), str(one.label["number"])))
    counts = {"reports": len(written), "images": len(written), "listed_images": len(written)}
    return Listing(tuple(one.id for one in ordered), counts)


def _xml(one: Written) -> str:
    findings, _, impression = one.report.partition("\nIMPRESSION: ")
    texts = {"COMPARISON": "None.", "INDICATION": "XXXX-year-old with cough.", "FINDINGS": "", "IMPRESSION": ""}
    if not one.label["silent"]:
        texts |= {"FINDINGS": findings.removeprefix("FINDINGS: "), "IMPRESSION": impression}
    sections = "".join(f'<AbstractText Label="{name}">{escape(text)}</AbstractText>' for name, text in texts.items())
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="{one.id}"/><MedlineCitation><Article><Abstract>{sections}</Abstract>'
        f'</Article></MedlineCitation><parentImage id="{one.label["stem"]}"><caption>Xray Chest PA</caption></parentImage></eCitation>\n'
    )
