"""The files of the JSRT and SCR phantom against the release's layout (docs/sources.md, JSRT)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom import jsrt
from benchmark.phantom.corpus import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "jsrt"
    return root, write_corpus(CorpusPlan("jsrt", 4, seed=4, images_per_patient=(2, 3), positive_share=0.5), root)


def test_images_are_raw_big_endian_words_of_twelve_bits(corpus):
    root, summary = corpus
    files = sorted((root / "All247images").iterdir())
    assert len(files) == summary.counts["images"] == 4  # one a patient
    for path in files:
        assert path.suffix == ".IMG"
        assert path.stat().st_size == 8_388_608
        values = np.fromfile(path, ">u2")
        assert values.max() <= 4095
        assert np.fromfile(path, "<u2").max() > 4095  # the other order is no radiograph


def test_names_say_nodule_or_none_and_leave_the_releases_numbers_free(corpus):
    root, summary = corpus
    names = [path.stem for path in (root / "All247images").iterdir()]
    assert sum(name.startswith("JPCLN") for name in names) == summary.counts["nodule_images"] == 2
    assert all(name[:5] in ("JPCLN", "JPCNN") and int(name[5:]) > 154 for name in names)


def test_each_image_has_its_masks_in_the_fold_of_its_number(corpus):
    root, _ = corpus
    for path in (root / "All247images").iterdir():
        fold, other = ("fold1", "fold2") if int(path.stem[-3:]) % 2 else ("fold2", "fold1")
        assert not list((root / "scr" / other).rglob(f"{path.stem}.gif"))
        for structure in ("heart", "left lung", "right lung"):
            with Image.open(root / "scr" / fold / "masks" / structure / f"{path.stem}.gif") as mask:
                values = np.asarray(mask)
            assert values.shape == (1024, 1024)
            assert set(np.unique(values)) == {0, 255}  # as stored, before the palette


def test_the_right_lung_is_on_the_left_of_the_picture_and_dark_when_inverted(corpus):
    root, _ = corpus
    for path in (root / "All247images").iterdir():
        bright = 4095 - np.fromfile(path, ">u2").reshape(2048, 2048).astype(int)
        fold = "fold1" if int(path.stem[-3:]) % 2 else "fold2"
        masks = {}
        for structure in ("heart", "left lung", "right lung"):
            with Image.open(root / "scr" / fold / "masks" / structure / f"{path.stem}.gif") as mask:
                masks[structure] = np.asarray(mask) > 0
        centre = {name: np.nonzero(mask)[1].mean() for name, mask in masks.items()}
        assert centre["right lung"] < 512 < centre["left lung"]
        small = bright[::2, ::2]
        assert small[masks["right lung"]].mean() < small[masks["heart"]].mean()


def test_more_patients_than_names_are_refused():
    with pytest.raises(UsageError, match="three digits"):
        jsrt.shots(CorpusPlan("jsrt", 801, seed=0))
