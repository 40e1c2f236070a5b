"""One process and Ray give the same bits, of a job that reads a real radiograph among generated ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.store import Store

pytestmark = pytest.mark.slow

LINEAR = "rsna-linear-frozen-100"


def test_real_dicom_inline_and_ray_give_the_same_bits(corpora: Path, real_files: Path, lobe, tmp_path: Path):
    rsna = tmp_path / "data"
    shutil.copytree(corpora / "rsna", rsna / "rsna")
    real = real_files / "real" / "rsna_16d7f894-55d7-4d95-8957-d18987f0e981.dcm"
    name = real.stem.removeprefix("rsna_")
    shutil.copy(real, rsna / "rsna" / "stage_2_train_images" / f"{name}.dcm")
    with (rsna / "rsna" / "stage_2_train_labels.csv").open("a") as handle:
        handle.write(f"{name},300.0,420.0,210.0,260.0,1\n")
    outs = [tmp_path / "inline", tmp_path / "ray"]
    for out in outs:
        code, _, err = lobe(
            "run",
            "-b",
            "torchvision:resnet18",
            "-t",
            LINEAR,
            "--data",
            rsna,
            "--limit",
            32,
            "--seeds",
            1,
            "--profile",
            "smoke",
            "--out",
            out,
            "--executor",
            out.name,
        )
        assert code == 0, err
    first, second = (Store(out).all() for out in outs)
    assert [r.key for r in first] == [r.key for r in second]
    for a, b in zip(first, second, strict=True):
        assert (a.metrics, a.validation, a.curve, a.selected_epoch) == (b.metrics, b.validation, b.curve, b.selected_epoch)
        for file in a.predictions:
            assert (outs[0] / file).read_bytes() == (outs[1] / file).read_bytes(), file
