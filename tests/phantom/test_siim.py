"""The files of the SIIM-ACR phantom against the release's layout (docs/sources.md, SIIM-ACR)."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.phantom.siim import relative_run_lengths


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "siim"
    return root, write_corpus(CorpusPlan("siim", 4, seed=4, images_per_patient=(2, 2), positive_share=0.6), root)


def decode(text: str, height: int, width: int) -> np.ndarray:
    """The definition, one pixel at a time: gap since the end of the previous run, then a run, down the columns."""
    mask = np.zeros((height, width), dtype=bool)
    position = 0
    numbers = [int(n) for n in text.split()]
    for gap, run in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        for k in range(position, position + run):
            mask[k % height, k // height] = True
        position += run
    return mask


def test_run_lengths_are_relative_and_run_down_the_columns():
    mask = np.zeros((4, 3), dtype=bool)
    mask[1:3, 0] = mask[0, 1] = mask[3, 2] = True
    assert relative_run_lengths(mask) == "1 2 1 1 6 1"
    assert np.array_equal(decode("1 2 1 1 6 1", 4, 3), mask)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_decode_to_the_mask(seed):
    mask = np.random.default_rng(seed).random((7, 11)) < 0.4
    assert np.array_equal(decode(relative_run_lengths(mask), 7, 11), mask)


def test_table_has_the_blank_in_its_header_and_one_row_per_instance(corpus):
    root, summary = corpus
    header, *rows = (root / "train-rle.csv").read_text().splitlines()
    assert header == "ImageId, EncodedPixels"
    values = {}
    for row in rows:
        name, code = row.split(",")
        values.setdefault(name, []).append(code)
    assert len(values) == summary.counts["images"]
    assert sum(codes != ["-1"] for codes in values.values()) == summary.counts["positives"] > 0
    for codes in values.values():
        assert codes == ["-1"] or all(len(code.split()) % 2 == 0 for code in codes)


def test_masks_lie_in_the_lungs_of_the_named_side(corpus):
    root, _ = corpus
    for row in (root / "train-rle.csv").read_text().splitlines()[1:]:
        code = row.split(",")[1]
        if code != "-1":
            mask = decode(code, 1024, 1024)
            assert mask.sum() > 40
            rows, columns = np.nonzero(mask)
            assert rows.mean() < 700  # air rises; an exchanged mask would spread over the picture's width
            assert abs(columns.mean() - 512) > 60


def test_files_lie_two_folders_deep_and_some_have_no_row(corpus):
    root, summary = corpus
    files = sorted(root.glob("dicom-images-train/*/*/*.dcm"))
    rows = {row.split(",")[0] for row in (root / "train-rle.csv").read_text().splitlines()[1:]}
    assert rows < {path.stem for path in files}
    assert len(files) - len(rows) == summary.counts["files_without_row"] == 1
    assert list(root.glob("dicom-images-test/*/*/*.dcm"))
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert path.stem == header.SOPInstanceUID == header.file_meta.MediaStorageSOPInstanceUID
        assert path.parts[-3:-1] == (header.StudyInstanceUID, header.SeriesInstanceUID)
        assert header.SOPInstanceUID.startswith("1.2.276.0.7230010.3.1.4.8323329.")
        assert pydicom.uid.UID(header.SOPInstanceUID).is_valid
